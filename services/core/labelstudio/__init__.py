"""A client for Label Studio's API, in raw JSON over `transport`.

Raw because the SDK's models parse every field of every annotation in this process, and because its typed arguments lack the
Data Manager's filters (`query=`), which save Label Studio from sending unlabelled tasks. Blocking: call it in a thread, since
Label Studio calls our backend while it answers (a title change calls /setup).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from services.core.domain import Counts, Project
from services.core.errors import LabelStudioAnswerTooLarge, LabelStudioError
from services.core.labelstudio.answers import basic_auth_user, parse_counts, parse_project, parse_task
from services.core.labelstudio.transport import Transport
from services.core.settings import LabelStudioSettings

log = structlog.get_logger()
# `include` also names the fields of annotations and predictions inside a task.
_ANNOTATED_FIELDS = "id,data,annotations,updated_at,created_at,result,was_cancelled,ground_truth,completed_by"
_PREDICTIONS_PER_REQUEST = 500
"""Predictions per request: Label Studio inserts them in batches of this size."""
_SUGGESTED_FIELDS = (
    "id,annotations,predictions,result,was_cancelled,parent_prediction,created_at,model_version"
)


@dataclass(frozen=True, slots=True)
class Backend:
    """An ML backend connected to a project."""

    id: int
    url: str
    title: str
    basic_auth_user: str = ""


class LabelStudio:
    """A client for one Label Studio. Raises LabelStudioUnreachable, TokenRefused or LabelStudioError."""

    def __init__(self, settings: LabelStudioSettings) -> None:
        """Connect lazily. Raises BadConfig if the CA file cannot be read."""
        self.settings = settings
        self._wire = Transport(settings)

    def project(self, project_id: int, newest_change: str | None = None) -> tuple[Project, Counts]:
        """Return the project and its counts; `newest_change`: as `newest` returned it before. Raises LabelStudioNotFound."""
        row = self._get(f"api/projects/{project_id}/")
        stamp = self.newest(project_id)[2] if newest_change is None else newest_change
        with self._parsing(f"project {project_id}"):
            return parse_project(project_id, row), parse_counts(row, stamp)

    def newest(self, project_id: int) -> tuple[int, int, str]:
        """Return the numbers of tasks and annotations, and `updated_at` of the task changed last, in one cheap request.

        An annotation that is made, edited, skipped or deleted sets its task's `updated_at`, as does an edit of the task's data; a
        task that is made or deleted changes the number of tasks. Not visible: a change of the label config or the title, and
        annotations that go with a deleted user. Predictions that are imported change none of the three. Raises LabelStudioNotFound.
        """
        page = self._page(project_id, 1, ordering="-tasks:updated_at", include="id,updated_at")
        with self._parsing(f"the tasks of project {project_id}"):
            stamp = str(page.tasks[0]["updated_at"]) if page.tasks else ""
            return page.total, page.annotations, stamp

    def annotated_tasks(self, project_id: int, since: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield tasks with annotations, by id: `id`, `data`, `annotations`. With `since`, all tasks changed since then."""
        if since is None:
            item = _filter("total_annotations", "greater", "Number", 0)
        else:
            item = _filter("updated_at", "greater_or_equal", "Datetime", since)
        yield from self._tasks(project_id, item, fields="all", include=_ANNOTATED_FIELDS)

    def texts(self, project_id: int, tasks: Collection[int]) -> Iterator[dict[str, Any]]:
        """Yield these tasks, annotated or not, each once: `id`, `data`; deleted ones are omitted."""
        missing = set(tasks)
        annotated = _filter("total_annotations", "greater", "Number", 0)
        yield from self._take(project_id, annotated, missing)
        for first, last in _ranges(missing, self.settings.page_size):
            item = _filter("id", "in", "Number", {"min": first, "max": last})
            yield from self._take(project_id, item, missing)

    def suggested_tasks(self, project_id: int, most: int) -> list[dict[str, Any]]:
        """Return the most recently changed annotated tasks with predictions: `id`, `annotations`, `predictions`."""
        items = [_filter(name, "greater", "Number", 0) for name in ("total_annotations", "total_predictions")]
        order = "-tasks:updated_at"
        return self._page(
            project_id, most, items, ordering=order, fields="all", include=_SUGGESTED_FIELDS
        ).tasks

    def unlabelled_tasks(self, project_id: int) -> Iterator[dict[str, Any]]:
        """Yield tasks without annotations, by id: `id`, `data`."""
        item = _filter("total_annotations", "equal", "Number", 0)
        yield from self._tasks(project_id, item, fields="task_only", include="id,data")

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

    def predicted_tasks(self, project_id: int, version: str) -> set[int]:
        """Return the ids of unlabelled tasks that have a prediction of that version."""
        item = _filter("total_annotations", "equal", "Number", 0)
        return {task for task, holds in self._predicted(project_id, version, item) if holds}

    def have_prediction(self, project_id: int, version: str, tasks: Sequence[int]) -> dict[int, bool]:
        """Map each of these tasks to whether it has a prediction of that version; deleted tasks are omitted."""
        item = _filter("id", "in", "Number", {"min": min(tasks), "max": max(tasks)})
        asked = set(tasks)
        return {task: holds for task, holds in self._predicted(project_id, version, item) if task in asked}

    def _predicted(self, project_id: int, version: str, item: dict[str, Any]) -> Iterator[tuple[int, bool]]:
        for row in self._tasks(project_id, item, fields="all", include="id,predictions,model_version"):
            versions = (one.get("model_version") for one in row.get("predictions") or ())
            yield row["id"], version in versions

    def backends(self, project_id: int) -> list[Backend]:
        """List the project's ML backends. Label Studio calls /health and /setup of each before it answers."""
        rows = self._get("api/ml/", project=project_id)
        with self._parsing(f"the ML backends of project {project_id}"):
            return [Backend(row["id"], row["url"], row["title"] or "", basic_auth_user(row)) for row in rows]

    def set_backend_title(self, project_id: int, backend: Backend, title: str, auth: dict[str, str]) -> None:
        """Rename the backend; Label Studio requires its URL, project and Basic credentials again."""
        body = {"title": title, "url": backend.url, "project": project_id, **auth}
        self._wire.request("PATCH", f"api/ml/{backend.id}", json=body)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Make any other request, such as `api/webhooks/`, and return the JSON. Options are httpx's `params` and `json`."""
        return self._wire.request(method, path, **options)

    def _take(self, project_id: int, item: dict[str, Any], missing: set[int]) -> Iterator[dict[str, Any]]:
        """Yield the tasks that pass the filter and are missing, until none is."""
        rows = self._tasks(project_id, item, fields="task_only", include="id,data") if missing else ()
        for row in rows:
            if row["id"] in missing:
                yield row
                missing.discard(row["id"])
            if not missing:
                return

    def _tasks(
        self, project_id: int, item: dict[str, Any], fields: str, include: str
    ) -> Iterator[dict[str, Any]]:
        """Page by id, not by page number: a task that leaves the filter would shift others to an earlier page."""
        items, size = [item], self.settings.page_size
        while True:
            page = self._page(project_id, size, items, fields=fields, include=include)
            yield from page.tasks
            size = page.size
            if not page.tasks or len(page.tasks) >= page.total:
                return
            items = [item, _filter("id", "greater", "Number", page.tasks[-1]["id"])]

    def _page(
        self,
        project_id: int,
        size: int,
        items: Sequence[dict[str, Any]] = (),
        *,
        ordering: str = "tasks:id",
        fields: str = "task_only",
        include: str = "id",
    ) -> _Page:
        query = {"filters": {"conjunction": "and", "items": list(items)}, "ordering": [ordering]}
        params = {"project": project_id, "query": json.dumps(query), "fields": fields, "include": include}
        answer, size = self._get_page(size, params)
        with self._parsing(f"the tasks of project {project_id}"):
            annotations = int(answer.get("total_annotations") or 0)
            return _Page(
                [parse_task(row) for row in answer["tasks"]], int(answer["total"]), size, annotations
            )

    def _get_page(self, size: int, params: dict[str, object]) -> tuple[Any, int]:
        """Return a page of tasks, halving its size while it is too large. Raises LabelStudioAnswerTooLarge for a single task."""
        while True:
            try:
                return self._get("api/tasks/", **params, page=1, page_size=size), size
            except LabelStudioAnswerTooLarge:
                if size == 1:
                    raise
                size //= 2
                advice = f"set FITLOOP_LABEL_STUDIO_PAGE_SIZE to {size} or less"
                log.warning("page_of_tasks_too_large", project=params["project"], advice=advice)

    def _get(self, path: str, **params: object) -> Any:
        return self._wire.request("GET", path, params=params)

    @contextlib.contextmanager
    def _parsing(self, what: str) -> Iterator[None]:
        """Turn errors of parsing an unexpected answer into a LabelStudioError."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise LabelStudioError(
                f"Label Studio at {self.settings.url} described {what} in a way that this release does not know "
                f"({type(error).__name__}): is it a Label Studio?"
            ) from error


class _Page(NamedTuple):
    tasks: list[dict[str, Any]]
    total: int
    """Tasks that pass the filter, on this page or not."""
    size: int
    """Tasks that fit a page."""
    annotations: int
    """Annotations of those tasks, by Label Studio's counters."""


def _filter(column: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _ranges(ids: Iterable[int], most: int) -> list[tuple[int, int]]:
    """Return ranges that hold these ids, divided where `most` ids or more are not among them.

    A range read by pages of that size takes no more requests than it holds ids.
    """
    found: list[tuple[int, int]] = []
    for number in sorted(ids):
        if found and number - found[-1][1] <= most:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
