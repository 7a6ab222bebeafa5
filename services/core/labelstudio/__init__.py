"""A client for Label Studio's API, in raw JSON over `transport`.

Raw because the SDK's models parse every field of every annotation in this process, and because its typed arguments lack the
Data Manager's filters (`query=`), which save Label Studio from sending unlabelled tasks. Blocking: call it in a thread, since
Label Studio calls our backend while it answers (a title change calls /setup).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from services.core.domain import Counts, Project
from services.core.labelstudio.answers import basic_auth_user, parse_counts, parse_project
from services.core.labelstudio.pages import task_filter
from services.core.labelstudio.predictions import PredictionStore

# `include` also names the fields of annotations and predictions inside a task.
_ANNOTATED_FIELDS = "id,data,annotations,updated_at,created_at,result,was_cancelled,ground_truth,completed_by"
_SUGGESTED_FIELDS = "id,annotations,predictions,result,was_cancelled,parent_prediction,created_at,model_version,lead_time,completed_by"


@dataclass(frozen=True, slots=True)
class Backend:
    """An ML backend connected to a project."""

    id: int
    url: str
    title: str
    basic_auth_user: str = ""


class LabelStudio(PredictionStore):
    """A client for one Label Studio. Raises LabelStudioUnreachable, TokenRefused or LabelStudioError."""

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

    def annotated_tasks(
        self, project_id: int, since: str | None = None, *, trust_counters: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Yield tasks with annotations, by id: `id`, `data`, `annotations`. With `since`, all tasks changed since then.

        Label Studio stores with each task how many annotations it has, and that number can be wrong. Without `trust_counters`, tasks are
        found by their annotations' ids instead, for which Label Studio has to group all tasks.
        """
        if since is None and not trust_counters:
            item = task_filter("annotations_ids", "empty", "List", "false")
        elif since is None:
            item = task_filter("total_annotations", "greater", "Number", 0)
        else:
            item = task_filter("updated_at", "greater_or_equal", "Datetime", since)
        yield from self._tasks(project_id, [item], fields="all", include=_ANNOTATED_FIELDS)

    def texts(self, project_id: int, tasks: Collection[int]) -> Iterator[dict[str, Any]]:
        """Yield these tasks, annotated or not, each once: `id`, `data`; deleted ones are omitted."""
        missing = set(tasks)
        annotated = task_filter("total_annotations", "greater", "Number", 0)
        yield from self._take(project_id, annotated, missing)
        for first, last in _ranges(missing, self.settings.page_size):
            item = task_filter("id", "in", "Number", {"min": first, "max": last})
            yield from self._take(project_id, item, missing)

    def suggested_tasks(self, project_id: int, most: int, *, texts: bool = False) -> list[dict[str, Any]]:
        """Return the most recently changed annotated tasks with predictions: `id`, `annotations`, `predictions`; `data` if `texts`."""
        items = [
            task_filter(name, "greater", "Number", 0) for name in ("total_annotations", "total_predictions")
        ]
        include = f"{_SUGGESTED_FIELDS},data" if texts else _SUGGESTED_FIELDS
        order = "-tasks:updated_at"
        return self._page(project_id, most, items, ordering=order, fields="all", include=include).tasks

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
        rows = self._tasks(project_id, [item], fields="task_only", include="id,data") if missing else ()
        for row in rows:
            if row["id"] in missing:
                yield row
                missing.discard(row["id"])
            if not missing:
                return


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
