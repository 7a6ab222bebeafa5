"""Pages of a project's tasks, by Label Studio's Data Manager filters."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import structlog

from services.core.errors import LabelStudioAnswerTooLarge, LabelStudioError
from services.core.labelstudio.answers import parse_task
from services.core.labelstudio.transport import Transport
from services.core.settings import LabelStudioSettings

log = structlog.get_logger()


class Page(NamedTuple):
    """The first tasks that pass a filter."""

    tasks: list[dict[str, Any]]
    total: int
    """Tasks that pass the filter, on this page or not."""
    size: int
    """Tasks that fit a page."""
    annotations: int
    """Annotations of those tasks, by Label Studio's counters."""


class TaskPages:
    """Reads tasks of one Label Studio. Raises LabelStudioUnreachable, TokenRefused or LabelStudioError."""

    def __init__(self, settings: LabelStudioSettings) -> None:
        """Connect lazily. Raises BadConfig if the CA file cannot be read."""
        self.settings = settings
        self._wire = Transport(settings)

    def _tasks(
        self, project_id: int, items: Sequence[dict[str, Any]], fields: str, include: str
    ) -> Iterator[dict[str, Any]]:
        for page in self._pages(project_id, items, self.settings.page_size, fields, include):
            yield from page

    def _pages(
        self, project_id: int, items: Sequence[dict[str, Any]], size: int, fields: str, include: str
    ) -> Iterator[list[dict[str, Any]]]:
        """Page by id, not by page number: a task that leaves the filter would shift others to an earlier page."""
        beyond: list[dict[str, Any]] = []
        while True:
            page = self._page(project_id, size, [*items, *beyond], fields=fields, include=include)
            yield page.tasks
            size = page.size
            if not page.tasks or len(page.tasks) >= page.total:
                return
            beyond = [task_filter("id", "greater", "Number", page.tasks[-1]["id"])]

    def _page(
        self,
        project_id: int,
        size: int,
        items: Sequence[dict[str, Any]] = (),
        *,
        ordering: str = "tasks:id",
        fields: str = "task_only",
        include: str = "id",
    ) -> Page:
        query = {"filters": {"conjunction": "and", "items": list(items)}, "ordering": [ordering]}
        params = {"project": project_id, "query": json.dumps(query), "fields": fields, "include": include}
        answer, size = self._get_page(size, params)
        with self._parsing(f"the tasks of project {project_id}"):
            annotations = int(answer.get("total_annotations") or 0)
            return Page([parse_task(row) for row in answer["tasks"]], int(answer["total"]), size, annotations)

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


def task_filter(column: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    """Return one item of a Data Manager filter."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
