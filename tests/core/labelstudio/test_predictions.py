"""LabelStudio.unlabelled_ids: the most uncertain tasks first, each once, whatever leaves the pages meanwhile."""

from __future__ import annotations

import json

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from services.core.labelstudio import LabelStudio, predictions, unlabelled
from services.core.settings import LabelStudioSettings

URL = "http://studio.example"
SIZE = 4


class _Tasks:
    """Label Studio's `/api/tasks/` over unlabelled tasks with scores."""

    def __init__(self, scores: dict[int, float | None], status: int = 200) -> None:
        self.scores = scores
        self.status = status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = json.loads(request.url.params["query"])
        by_score = query["ordering"] == ["tasks:predictions_score"]
        if by_score and self.status != httpx.codes.OK:
            return httpx.Response(self.status, json={})
        rows = sorted(
            (score, task) if by_score else (None, task)
            for task, score in self.scores.items()
            if score is not None or not by_score
        )
        for item in query["filters"]["items"]:
            value, operator = item["value"], item["operator"]
            if item["filter"] == "filter:tasks:predictions_score" and operator != "empty":
                rows = [
                    row for row in rows if row[0] > value or (operator.endswith("equal") and row[0] == value)
                ]
            elif item["filter"] == "filter:tasks:id":
                rows = [row for row in rows if row[1] > value]
        found = [{"id": task, "predictions_score": score} for score, task in rows]
        return httpx.Response(200, json={"tasks": found[:SIZE], "total": len(found)})


def _ids(server: _Tasks) -> list[int]:
    client = LabelStudio(LabelStudioSettings(url=URL, api_key="0" * 40))
    with respx.mock(base_url=URL) as router, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "IDS_PER_PAGE", SIZE)
        patch.setattr(unlabelled, "IDS_PER_PAGE", SIZE)
        router.get("/api/tasks/").mock(side_effect=server)
        return [task for page in client.unlabelled_ids(1) for task in page]


@given(st.dictionaries(st.integers(1, 60), st.none() | st.sampled_from((0.1, 0.5, 0.9)) | st.floats(0, 1)))
def test_every_unlabelled_task_comes_once(scores: dict[int, float | None]) -> None:
    assert sorted(_ids(_Tasks(scores))) == sorted(scores)


@given(st.lists(st.floats(0, 1), unique=True, max_size=20))
def test_most_uncertain_tasks_come_first(scores: list[float]) -> None:
    ordered = _ids(_Tasks({**dict(enumerate(scores, start=10)), 1: None}))
    assert ordered == [*sorted(range(10, 10 + len(scores)), key=lambda task: scores[task - 10]), 1]


def test_refused_ordering_leaves_the_order_of_ids() -> None:
    assert _ids(_Tasks({3: 0.1, 1: 0.9, 2: 0.5}, status=400)) == [1, 2, 3]


def test_deleted_prediction_is_no_error() -> None:
    client = LabelStudio(LabelStudioSettings(url=URL, api_key="0" * 40))
    answer = {"status_code": 404, "detail": "No Prediction matches the given query."}
    with respx.mock(base_url=URL) as router:
        router.delete("/api/predictions/7/").mock(
            side_effect=[httpx.Response(204), httpx.Response(404, json=answer)]
        )
        client.delete_prediction(7)
        client.delete_prediction(7)


def test_many_ids_are_filtered_by_short_urls_and_keep_their_order() -> None:
    client, asked = LabelStudio(LabelStudioSettings(url=URL, api_key="0" * 40)), []
    wanted = [2_000_000_000 - number for number in range(600)]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        unlabelled, without, ids = json.loads(request.url.params["query"])["filters"]["items"]
        assert (unlabelled["value"], without["operator"], without["value"]) == (
            0,
            "not_contains",
            ["support-1"],
        )
        rows = [{"id": task, "data": {}} for task in sorted(ids["value"]) if task != wanted[5]]
        return httpx.Response(200, json={"tasks": rows, "total": len(rows)})

    with respx.mock(base_url=URL) as router:
        router.get("/api/tasks/").mock(side_effect=answer)
        found = client.unpredicted_tasks(1, "support-1", wanted)
    assert [row["id"] for row in found] == [*wanted[:5], *wanted[6:]]
    assert all(len(str(url)) < 6000 for url in asked)
