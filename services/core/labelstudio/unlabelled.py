"""Tasks without annotations, read by pages: all of them, or those that changed since a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.core.labelstudio.pages import TaskPages, task_filter

UNLABELLED: Final = task_filter("total_annotations", "equal", "Number", 0)
IDS_PER_PAGE: Final = 2000
"""Tasks without their data: Label Studio needs 1 ms for each."""
IDS_PER_FILTER: Final = 250
"""Ids in one filter, which is part of a URL: proxies refuse URLs beyond 8 kB."""


class UnlabelledTasks(TaskPages):
    """The unlabelled tasks of one Label Studio. Raises LabelStudioUnreachable, TokenRefused or LabelStudioError."""

    def unlabelled_pages(
        self, project_id: int, since: str = "", below: int = 0
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the unlabelled tasks, `id` and `data`, the newest ids first; each list is one request.

        `since`: only those whose `updated_at` is this or later: new ones, those whose data was edited, whose annotations were
        deleted, or of whose predictions one was deleted alone. `below`: only ids below this one; 0: all.
        """
        changed = [task_filter("updated_at", "greater_or_equal", "Datetime", since)] if since else []
        size = self.settings.page_size
        while True:
            beyond = [task_filter("id", "less", "Number", below)] if below else []
            items = [UNLABELLED, *changed, *beyond]
            page = self._page(project_id, size, items, ordering="-tasks:id", include="id,data")
            yield page.tasks
            if not page.tasks or len(page.tasks) >= page.total:
                return
            size, below = page.size, page.tasks[-1]["id"]

    def unlabelled_texts(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have no annotation, `id` and `data`, in this order."""
        return self._by_id(project_id, tasks, [UNLABELLED], "task_only", "id,data")

    def all_unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        """Yield the ids of all tasks without annotations, ascending; each list is one request."""
        for page in self._pages(project_id, [UNLABELLED], IDS_PER_PAGE, "task_only", "id"):
            yield [task["id"] for task in page]

    def _by_id(
        self, project_id: int, tasks: Sequence[int], items: list[dict[str, Any]], fields: str, include: str
    ) -> list[dict[str, Any]]:
        """Return those of these tasks that pass the filters, in this order."""
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(tasks), IDS_PER_FILTER):
            ids = task_filter("id", "in_list", "List", list(tasks[start : start + IDS_PER_FILTER]))
            found.update((row["id"], row) for row in self._tasks(project_id, [*items, ids], fields, include))
        return [found[task] for task in tasks if task in found]
