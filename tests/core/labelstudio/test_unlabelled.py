"""labelstudio.unlabelled: each unlabelled task comes once, the newest first, in no more requests than pages."""

from __future__ import annotations

import json
from typing import Any

import httpx
import respx
from hypothesis import given
from hypothesis import strategies as st

from services.core.labelstudio import LabelStudio, unlabelled
from services.core.settings import LabelStudioSettings

URL = "http://studio.example"


def _client(page_size: int = 500) -> LabelStudio:
    return LabelStudio(LabelStudioSettings(url=URL, api_key="0" * 40, page_size=page_size))


class _Tasks:
    """Label Studio's `/api/tasks/` over unlabelled tasks by id, newest first; notes each query."""

    def __init__(self, tasks: set[int]) -> None:
        self.tasks = tasks
        self.queries: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = json.loads(request.url.params["query"])
        items = {item["filter"].rpartition(":")[2]: item for item in query["filters"]["items"]}
        self.queries.append(items)
        assert items["total_annotations"]["value"] == 0
        found = sorted(self.tasks, reverse=query["ordering"] == ["-tasks:id"])
        if (limit := items.get("id")) is not None:
            if limit["operator"] == "in_list":
                found = [task for task in found if task in limit["value"]]
            else:
                assert limit["operator"] == "less"
                found = [task for task in found if task < limit["value"]]
        rows = [{"id": task, "data": {"text": str(task)}} for task in found]
        page = rows[: int(request.url.params["page_size"])]
        return httpx.Response(200, json={"tasks": page, "total": len(rows)})


@given(st.sets(st.integers(1, 60)), st.integers(1, 9))
def test_every_task_comes_once_newest_first(tasks: set[int], size: int) -> None:
    server = _Tasks(tasks)
    with respx.mock(base_url=URL) as router:
        router.get("/api/tasks/").mock(side_effect=server)
        pages = list(_client(size).unlabelled_pages(1))
    assert [row["id"] for page in pages for row in page] == sorted(tasks, reverse=True)
    assert len(server.queries) == max(1, -(-len(tasks) // size))


def test_read_continues_where_it_was_cut_off() -> None:
    server = _Tasks({1, 2, 3, 4})
    with respx.mock(base_url=URL) as router:
        router.get("/api/tasks/").mock(side_effect=server)
        pages = list(_client().unlabelled_pages(1, "2026-11-29T10:00:00.000001Z", 3))
    assert [[row["id"] for row in page] for page in pages] == [[2, 1]]
    changed = server.queries[0]["updated_at"]
    assert (changed["operator"], changed["type"]) == ("greater_or_equal", "Datetime")
    assert changed["value"] == "2026-11-29T10:00:00.000001Z"


def test_wanted_texts_are_asked_for_in_a_few_requests() -> None:
    server, most = _Tasks(set(range(1, 1000))), unlabelled.IDS_PER_FILTER
    wanted = [2000, *range(most + 10, 0, -1)]
    with respx.mock(base_url=URL) as router:
        router.get("/api/tasks/").mock(side_effect=server)
        found = _client().unlabelled_texts(1, wanted)
    assert [row["id"] for row in found] == wanted[1:]
    assert len(server.queries) == 2
