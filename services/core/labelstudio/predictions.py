"""Predictions in Label Studio: which tasks have them, and storing and deleting them.

Deleting a whole version is one request (DELETE model-versions/), but one that Label Studio 1.23 carries out in one transaction, at
5 ms a prediction: on SQLite saving an annotation fails meanwhile, on PostgreSQL it waits; and it unsets the project's model version,
which ends pre-labelling. So predictions are deleted one by one (decision 32).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from services.core.errors import LabelStudioNotFound, LabelStudioRejected
from services.core.labelstudio.pages import task_filter
from services.core.labelstudio.unlabelled import IDS_PER_PAGE, UNLABELLED, UnlabelledTasks

_PREDICTIONS_PER_REQUEST: Final = 500
"""Predictions per request: Label Studio inserts them in batches of this size."""
_PREDICTED: Final = task_filter("total_predictions", "greater", "Number", 0)


class PredictionStore(UnlabelledTasks):
    """The predictions of one Label Studio. Raises LabelStudioUnreachable, TokenRefused or LabelStudioError."""

    def count_unlabelled(self, project_id: int) -> int:
        """Return how many tasks have no annotation."""
        return self._page(project_id, 1, [UNLABELLED]).total

    def unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        """Yield the ids of tasks without annotations, each once; each list is one request.

        The most uncertain come first, by the score that Label Studio shows: that of predictions whose version is the backend's
        title. Tasks without a score follow, by id.
        """
        seen: set[int] = set()
        for ids in chain(self._ids_by_score(project_id), self.all_unlabelled_ids(project_id)):
            yield [task for task in ids if task not in seen]
            seen.update(ids)

    def _ids_by_score(self, project_id: int) -> Iterator[list[int]]:
        """Page by score, as `_pages` does by id. Of more tasks with one score than fit a page, the rest is left to `all_unlabelled_ids`."""
        beyond = task_filter("predictions_score", "empty", "Number", value=False)
        include = "id,predictions_score"
        while True:
            items = [UNLABELLED, _PREDICTED, beyond]
            try:
                page = self._page(
                    project_id, IDS_PER_PAGE, items, ordering="tasks:predictions_score", include=include
                )
            except LabelStudioRejected:  # a Label Studio without that column
                return
            yield [task["id"] for task in page.tasks]
            if not page.tasks or len(page.tasks) >= page.total:
                return
            with self._parsing(f"the scores of project {project_id}"):
                first, last = (float(page.tasks[number]["predictions_score"]) for number in (0, -1))
            operator = "greater_or_equal" if last > first else "greater"
            beyond = task_filter("predictions_score", operator, "Number", last)

    def unlabelled_tasks(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have no annotation, in this order: `id`, `data`, `predictions`."""
        return self._by_id(project_id, tasks, [UNLABELLED], "all", "id,data,predictions,model_version")

    def unpredicted_tasks(self, project_id: int, version: str, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have neither an annotation nor a prediction of the version, in this order: `id`, `data`.

        Label Studio compares parts of names: a task is omitted, too, if it has a prediction of `support-12` and not of `support-1`.
        """
        without = task_filter("predictions_model_versions", "not_contains", "List", [version])
        return self._by_id(project_id, tasks, [UNLABELLED, without], "task_only", "id,data")

    def have_prediction(self, project_id: int, version: str, tasks: Sequence[int]) -> dict[int, bool]:
        """Map each of these tasks to whether it has a prediction of that version; deleted tasks are omitted."""
        rows = self._by_id(project_id, tasks, [], "all", "id,predictions,model_version")
        return {
            row["id"]: any(one.get("model_version") == version for one in row.get("predictions") or ())
            for row in rows
        }

    def push_predictions(self, project_id: int, predictions: Sequence[dict[str, Any]]) -> int:
        """Store predictions, each `{"task", "result", "score", "model_version"}`; not idempotent.

        Return how many were stored: Label Studio skips those that it does not understand, such as a nested
        choice's path.
        """
        stored = 0
        for start in range(0, len(predictions), _PREDICTIONS_PER_REQUEST):
            body = list(predictions[start : start + _PREDICTIONS_PER_REQUEST])
            answer = self._wire.request("POST", f"api/projects/{project_id}/import/predictions", json=body)
            with self._parsing(f"what it stored in project {project_id}"):
                stored += int(answer["created"])
        return stored

    def push_prediction(self, project_id: int, prediction: Mapping[str, Any]) -> None:
        """Store one prediction of any shape; not idempotent. Raises LabelStudioRejected."""
        self._wire.request("POST", "api/predictions/", json={**prediction, "project": project_id})

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one prediction; do nothing if it was deleted before. Its task's `updated_at` changes."""
        with contextlib.suppress(LabelStudioNotFound):
            self._wire.request("DELETE", f"api/predictions/{prediction_id}/")
