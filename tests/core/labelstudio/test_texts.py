"""LabelStudio.texts: the texts of given tasks, in few requests, whatever has happened to their annotations."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from services.core.labelstudio import LabelStudio
from services.core.settings import LabelStudioSettings

URL = "http://studio.example"
SIZE = 4


class _Tasks:
    """Label Studio's `/api/tasks/` over tasks of which some are annotated."""

    def __init__(self, tasks: set[int], annotated: set[int]) -> None:
        self.tasks = tasks
        self.annotated = annotated
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        items = json.loads(request.url.params["query"])["filters"]["items"]
        found = sorted(task for task in self.tasks if all(self._passes(task, item) for item in items))
        rows = [{"id": task, "data": {"text": f"text {task}"}} for task in found]
        return httpx.Response(200, json={"tasks": rows[:SIZE], "total": len(rows)})

    def _passes(self, task: int, item: dict[str, Any]) -> bool:
        column, operator, value = item["filter"], item["operator"], item["value"]
        if column == "filter:tasks:total_annotations":
            return operator == "greater" and task in self.annotated
        assert column == "filter:tasks:id"
        return bool(task > value if operator == "greater" else value["min"] <= task <= value["max"])


def _ask(server: _Tasks, wanted: set[int]) -> list[int]:
    client = LabelStudio(LabelStudioSettings(url=URL, api_key="0" * 40, page_size=SIZE))
    with respx.mock(base_url=URL) as router:
        router.get("/api/tasks/").mock(side_effect=server)
        return [task["id"] for task in client.texts(1, wanted)]


@pytest.fixture
def server() -> _Tasks:
    return _Tasks(set(range(1, 101)), set(range(1, 11)))


def test_only_texts_are_asked_for(server: _Tasks) -> None:
    assert _ask(server, set(range(1, 11))) == list(range(1, 11))
    assert {request.url.params["fields"] for request in server.requests} == {"task_only"}
    assert {request.url.params["include"] for request in server.requests} == {"id,data"}
    assert len(server.requests) == 3


def test_tasks_that_lost_their_annotations_follow(server: _Tasks) -> None:
    assert _ask(server, {2, 50, 53, 90}) == [2, 50, 53, 90]
    assert len(server.requests) == 3 + 2, "the annotated tasks, then one page around 50 and one around 90"


def test_deleted_tasks_are_omitted(server: _Tasks) -> None:
    server.tasks.discard(3)
    assert _ask(server, {2, 3, 500}) == [2]


def test_pages_end_with_the_last_wanted_task(server: _Tasks) -> None:
    assert _ask(server, {1, 2}) == [1, 2]
    assert len(server.requests) == 1


@given(st.sets(st.integers(1, 80)), st.sets(st.integers(1, 80)), st.sets(st.integers(1, 80), min_size=1))
def test_every_wanted_task_comes_once(tasks: set[int], annotated: set[int], wanted: set[int]) -> None:
    server = _Tasks(tasks, annotated)
    assert sorted(_ask(server, wanted)) == sorted(tasks & wanted)
    pages = len(tasks & annotated) // SIZE + 1
    assert len(server.requests) <= pages + len(wanted - annotated) + len(wanted - tasks)


def test_no_wanted_task_is_no_request() -> None:
    client = LabelStudio(LabelStudioSettings(url=URL, api_key="0" * 40))
    with respx.mock(base_url=URL):
        assert list(client.texts(1, ())) == []
