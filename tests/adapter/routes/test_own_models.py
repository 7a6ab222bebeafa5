"""POST /predict for a version whose answers a class of the operator's computes."""

from __future__ import annotations

from typing import Any

from services.core.errors import ModelClassError
from tests.support.app import AppWorld
from tests.support.metrics import metric_growth

KEY = "5-1795473352"


def image(number: int) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"{number}.png"}}


async def test_tasks_of_any_kind_are_passed_on(world: AppWorld) -> None:
    world.serve("v-7", own_models=("v-7",), space=None)
    first, nothing, not_a_task = await world.predict([image(1), {"id": 2, "data": {}}, 3])
    assert first["result"][0]["value"]["text"] == "{'image': '1.png'}"
    assert first["model_version"] == "v-7"
    assert (nothing, not_a_task) == ([], [])
    ((key, version, call),) = world.inference.calls
    assert (key, version, [task["id"] for task in call.tasks]) == (KEY, "v-7", [1, 2])


async def test_the_context_and_the_label_config_are_passed_on(world: AppWorld) -> None:
    world.serve("v-7", own_models=("v-7",))
    context = {"result": [{"value": {"text": "a word"}}]}
    params = {"login": None, "password": "x", "context": context, "tasks": "no argument twice"}
    answer = await world.client.post(
        "/predict",
        json={"tasks": [image(1)], "project": "5.1", "params": params, "label_config": "<View/>"},
    )
    assert answer.status_code == 200
    call = world.inference.calls[0][2]
    assert (call.context, call.params) == (context, {"login": None, "password": "x"})
    assert call.label_config == "<View/>"


async def test_many_tasks_are_asked_for_some_at_a_time(world: AppWorld) -> None:
    world.serve("v-7", own_models=("v-7",))
    answers = await world.predict([image(number) for number in range(70)])
    assert [len(call.tasks) for _, _, call in world.inference.calls] == [32, 32, 6]
    assert [one["result"][0]["value"]["text"] for one in answers] == [
        str(image(number)["data"]) for number in range(70)
    ]


async def test_a_class_that_fails_is_an_error_with_its_sentence(world: AppWorld) -> None:
    world.serve("v-7", own_models=("v-7",))
    world.inference.error = ModelClassError("own:Model failed in `predict`: KeyError: 'x'.")
    failed = metric_growth("fitloop_predictions_total", outcome="failed")
    answer = await world.client.post("/predict", json={"tasks": [image(1)], "project": "5.1"})
    assert answer.status_code == 503
    assert "KeyError" in answer.text
    assert failed() == 1


async def test_other_versions_of_the_project_score_texts(world: AppWorld) -> None:
    world.serve("v-8", own_models=("v-7",))
    (found,) = await world.predict([{"id": 1, "data": {"text": "aaa"}}])
    assert found["result"][0]["type"] == "choices"
    assert world.inference.calls == []
