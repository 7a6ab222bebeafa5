"""POST /predict: as many answers as tasks, in order, never null, finite scores; and [] for what cannot be predicted."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapter.routes import bodies
from services.adapter.suggestions import is_blind
from services.core.domain import LabelSpace, Served
from services.core.errors import CorruptVersion, EngineError, NotFound, Overloaded
from services.core.labels.readable import MAX_TEXT_BYTES, readable_text
from services.core.settings import ServingSettings, Settings
from services.engine.compute import Scores
from tests.support.app import AppWorld
from tests.support.fakes import LABELS, SPACE
from tests.support.metrics import metric_value


def task(text: object) -> dict[str, Any]:
    return {"id": 1, "data": {"text": text}}


async def test_each_task_gets_its_prediction_in_order(world: AppWorld) -> None:
    world.serve("v-7")
    first, second, third = await world.predict([task("aaa"), task("aaaa"), task("aaaaa")])
    assert [row["result"][0]["value"]["choices"] for row in (first, second, third)] == [
        [name] for name in LABELS
    ]
    assert first == {
        "result": [
            {
                "from_name": "sentiment",
                "to_name": "text",
                "type": "choices",
                "value": {"choices": ["Positive"]},
                "score": pytest.approx(4 / 6),
            }
        ],
        "score": pytest.approx(4 / 5),
        "model_version": "v-7",
    }
    assert world.inference.asked == [("5-1795473352", "v-7", ("aaa", "aaaa", "aaaaa"))]


async def test_a_version_from_label_names_shows_no_probability(world: AppWorld) -> None:
    world.serve("v-7", unevaluated=("v-7",))
    (row,) = await world.predict([task("aaa")])
    assert set(row["result"][0]) == {"from_name", "to_name", "type", "value"}
    assert row["score"] == pytest.approx(4 / 5)


BAD: list[Any] = [
    None,
    7,
    "text",
    [],
    {},
    {"data": None},
    {"data": []},
    {"data": {}},
    task(None),
    task(""),
    task("  \n"),
    task("word " * 200_000),
    task("ä" * 300_000),
    task("\x00\x01PNG\x1a\x07\x03 IHDR"),
    task("\x89\x01\x02\x03\x04ab\x05\x06\x07"),
    task("\N{REPLACEMENT CHARACTER}a" * 20),
    task("half of a pair \ud800"),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
async def test_an_unpredictable_task_gets_an_empty_list(world: AppWorld, bad: Any) -> None:
    world.serve()
    first, nothing, last = await world.predict([task("aaa"), bad, task("aaaa")])
    assert nothing == []
    assert (first["model_version"], last["model_version"]) == ("v-1", "v-1")


async def test_text_of_any_script_and_a_long_one_is_predicted(world: AppWorld) -> None:
    world.serve()
    texts = ["страница", "退款在哪里", "a\tb\r\nc", "🙂 ok", "x" * (MAX_TEXT_BYTES - 1)]
    assert all(await world.predict([task(text) for text in texts]))


async def test_invalid_utf8_and_nan_affect_only_their_task(world: AppWorld) -> None:
    world.serve()
    junk = b'{"data": {"text": "' + b"\xff\xfe\x80" * 20 + b'"}, "meta": {"x": NaN}}'
    body = b'{"project": 5, "tasks": [' + json.dumps(task("aaa")).encode() + b", " + junk + b"]}"
    answer = await world.client.post("/predict", content=body)
    first, second = answer.json()["results"]
    assert first["model_version"] == "v-1"
    assert second == []


@pytest.mark.parametrize("project", ["77.1", None, "x", 77])
async def test_an_unknown_project_gets_nothing_for_each_task(world: AppWorld, project: object) -> None:
    world.serve()
    assert await world.predict([task("a"), None], project) == [[], []]


@pytest.mark.parametrize("changes", [{"version": None}, {"space": None}, {"foreign": ("v-1",)}])
async def test_without_a_model_or_a_question_there_is_no_noise(
    world: AppWorld, changes: dict[str, Any]
) -> None:
    world.serve(**changes)
    before = metric_value("fitloop_predictions_total", outcome="no_model")
    assert await world.predict([task("a")] * 3) == [[], [], []]
    assert world.inference.asked == []
    assert metric_value("fitloop_predictions_total", outcome="no_model") == before + 3


async def test_no_tasks_give_no_results(world: AppWorld) -> None:
    world.serve()
    assert await world.predict([]) == []


async def test_a_label_that_the_config_no_longer_has_is_not_suggested(world: AppWorld) -> None:
    world.serve(space=LabelSpace("sentiment", "text", "$text", ("Positive", "Neutral", "New")))
    first, second = await world.predict([task("aaa"), task("aaaa")])
    assert first["result"][0]["value"]["choices"] == ["Positive"]
    assert second == []


async def test_the_setup_and_the_predictions_name_the_same_version(world: AppWorld) -> None:
    for version in ("v-1", "v-2"):
        world.serve(version)
        setup = await world.client.post("/setup", json={"project": "5.1"})
        (prediction,) = await world.predict([task("aaa")])
        assert setup.json()["model_version"] == prediction["model_version"] == version


async def test_the_context_of_an_interactive_request_changes_nothing(world: AppWorld) -> None:
    world.serve()
    body = {
        "project": 5,
        "tasks": [task("aaa")],
        "params": {"context": {"result": [{"x": 1}]}, "login": None},
    }
    answer = await world.client.post("/predict", json=body)
    assert len(answer.json()["results"]) == 1


@pytest.mark.parametrize(
    "row",
    [[math.nan] * 3, [math.inf, 0, 0], [0, 0, 0], [-1, 2, 0], [1.5, 0, 0]],
    ids=str,
)
async def test_figures_that_are_no_probabilities_give_nothing(world: AppWorld, row: list[float]) -> None:
    world.serve()
    world.inference.rows = [row, [0.5, 0.25, 0.25]]
    nothing, prediction = await world.predict([task("aaa"), task("aaa")])
    assert nothing == []
    assert prediction["score"] == pytest.approx(2 / 3)


async def test_rounding_above_one_is_one(world: AppWorld) -> None:
    world.serve()
    world.inference.rows = [[1.0000002, 0, 0]]
    (prediction,) = await world.predict([task("aaa")])
    assert (prediction["score"], prediction["result"][0]["score"]) == (1.0, 1.0)


async def test_a_model_that_does_not_answer_for_each_text_is_refused(world: AppWorld) -> None:
    world.serve()
    world.inference.rows = [[0.5, 0.25, 0.25]]
    before = metric_value("fitloop_predictions_total", outcome="failed")
    answer = await world.client.post("/predict", json={"project": 5, "tasks": [task("aaa")] * 2})
    assert answer.status_code == 503
    assert metric_value("fitloop_predictions_total", outcome="failed") == before + 2
    assert answer.json()["detail"] == "Version v-1 did not return scores for each text: see the log."


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded("The queue is full."), "overloaded"),
        (EngineError("Version v-1 cannot be loaded."), "failed"),
        (CorruptVersion("A file differs."), "failed"),
        (NotFound("No manifest."), "failed"),
    ],
)
async def test_what_goes_wrong_is_503_with_its_sentence(
    world: AppWorld, error: Exception, outcome: str
) -> None:
    world.serve()
    world.inference.error = error
    before = metric_value("fitloop_predictions_total", outcome=outcome)
    answer = await world.client.post("/predict", json={"project": 5, "tasks": [task("a"), task("b"), None]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["detail"] == str(error)
    assert metric_value("fitloop_predictions_total", outcome=outcome) == before + 2


async def test_a_slip_of_ours_counts_as_failed_too(world: AppWorld) -> None:
    world.serve()
    world.inference.error = ZeroDivisionError("x")
    before = metric_value("fitloop_predictions_total", outcome="failed")
    answer = await world.client.post("/predict", json={"project": 5, "tasks": [task("a")]})
    assert answer.status_code == 500
    assert metric_value("fitloop_predictions_total", outcome="failed") == before + 1


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"7", b"{}", b'{"tasks": null}', b'{"tasks": {}}', b'{"tasks": 3}']
)
async def test_a_body_without_a_list_of_tasks_is_400_with_a_sentence(world: AppWorld, body: bytes) -> None:
    answer = await world.client.post("/predict", content=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The body")


async def test_a_thousand_tasks_are_answered_in_order(world: AppWorld) -> None:
    world.serve()
    results = await world.predict([task("a" * (1 + number % 3) + " " * 200) for number in range(1000)])
    found = [row["result"][0]["value"]["choices"][0] for row in results]
    assert found == [LABELS[(201 + number % 3) % 3] for number in range(1000)]


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "text", "id"]), inner)
    ),
    max_leaves=8,
)
_tasks = st.lists(_json | st.builds(task, st.text() | _json), max_size=6)


@settings(max_examples=60, deadline=None)
@given(_tasks, st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=6, max_size=6))
def test_any_tasks_and_scores_give_finite_answers_for_each(tasks: list[Any], rows: list[list[float]]) -> None:
    results = asyncio.run(_predicted(tasks, rows))
    assert len(results) == len(tasks)
    for result in results:
        assert result == [] or 0 <= result["score"] <= 1
        assert result == [] or 0 <= result["result"][0]["score"] <= 1


async def _predicted(tasks: list[Any], rows: list[list[float]]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with AppWorld(Path(folder)) as world:
            world.serve()
            world.inference.rows = rows[: sum(readable_text(SPACE, one) is not None for one in tasks)]
            body = json.dumps({"tasks": tasks, "project": 5}).encode()
            answer = await world.client.post("/predict", content=body)
            assert answer.status_code == 200, answer.text
            return list(answer.json()["results"])


async def test_both_routes_serve_the_previous_version_until_the_flip(world: AppWorld) -> None:
    coming = Served(current="v-8", previous="v-7", since=time.time() + 3600)
    world.serve(served=coming)
    assert (await world.client.post("/setup", json={"project": 5})).json() == {"model_version": "v-7"}
    (prediction,) = await world.predict([task("aaa")])
    assert prediction["model_version"] == "v-7"
    assert world.inference.asked[-1][1] == "v-7"
    served = (await world.client.get("/api/projects")).json()["projects"][0]["served"]
    assert (served["current"], served["target"]) == ("v-7", "v-8")
    world.serve(served=replace(coming, since=0.0))
    assert (await world.client.post("/setup", json={"project": 5})).json() == {"model_version": "v-8"}
    (prediction,) = await world.predict([task("aaa")])
    assert prediction["model_version"] == "v-8"


async def test_an_answer_names_the_version_that_scored_it(
    world: AppWorld,
) -> None:
    world.serve("v-7")
    scores = world.inference.scores

    async def slow(project_key: str, version: str, texts: Any) -> Scores:
        world.serve("v-8")
        return await scores(project_key, version, texts)

    world.inference.scores = slow  # type: ignore[method-assign]
    (prediction,) = await world.predict([task("aaa")])
    assert prediction["model_version"] == "v-7"


async def test_many_tasks_are_asked_for_in_pieces_and_answered_in_one(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PIECE_BYTES", 1000)
    world.serve("v-7")
    found = await world.predict([task("a" * (number % 7)) for number in range(3000)])
    assert [bool(one) for one in found] == [number % 7 > 0 for number in range(3000)]
    assert len(world.inference.asked) > 50
    assert {version for _, version, _ in world.inference.asked} == {"v-7"}


async def test_a_blind_text_gets_a_prediction_without_labels(tmp_path: Path) -> None:
    """Label Studio stores it, so it asks no more, and its uncertainty sampling still has the score."""
    settings = Settings(serving=ServingSettings(blind_share=0.3))
    async with AppWorld(tmp_path, settings=settings) as world:
        world.serve()
        texts = [f"text {number}" for number in range(20)]
        found = await world.predict([task(text) for text in texts])
        assert [not one["result"] for one in found] == [is_blind(text, 0.3) for text in texts]
        assert any(not one["result"] for one in found)
        assert all(0 < one["score"] <= 1 and one["model_version"] == "v-1" for one in found)
