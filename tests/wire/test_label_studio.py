"""Every request recorded from a real Label Studio 1.23.2, replayed, and the answers checked against its requirements."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.adapter import metrics
from tests.support.app import AppWorld
from tests.support.fakes import LABELS
from tests.support.metrics import metric_value

CAPTURE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "label_studio_capture.json").read_text(encoding="utf-8")
)
_CONNECTION = {"host", "content-length", "connection"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AppWorld]:
    async with AppWorld(tmp_path) as built:
        built.serve("reviews-3")
        yield built


async def replay(world: AppWorld, request: dict[str, Any]) -> httpx.Response:
    """Send the request as recorded: the same headers, and the JSON that `requests` writes."""
    headers = {key: value for key, value in request["headers"].items() if key.lower() not in _CONNECTION}
    content = None if request["body"] is None else json.dumps(request["body"])
    return await world.client.request(request["method"], request["path"], headers=headers, content=content)


def requests(path: str) -> list[Any]:
    """Return the recorded requests to a path."""
    return [
        pytest.param(request, id=f"{request['case']}-{number}")
        for number, request in enumerate(CAPTURE)
        if request["path"] == path
    ]


def test_the_capture_covers_every_route_without_secrets() -> None:
    text = json.dumps(CAPTURE)
    assert {request["path"] for request in CAPTURE} == {
        "/health",
        "/setup",
        "/predict",
        "/webhook",
        "/versions",
    }
    assert len(CAPTURE) == 53
    assert text.count('"token"') == text.count('"token": "' + "x" * 40)
    assert text.count('"access_token"') == text.count('"access_token": "' + "x" * 40)


@pytest.mark.parametrize("request_", requests("/health"))
async def test_health_is_a_json_object(world: AppWorld, request_: dict[str, Any]) -> None:
    answer = await replay(world, request_)
    assert answer.status_code == 200
    assert answer.json()["status"] == "UP"


@pytest.mark.parametrize("request_", requests("/setup"))
async def test_setup_returns_the_served_version(world: AppWorld, request_: dict[str, Any]) -> None:
    answer = await replay(world, request_)
    assert answer.status_code == 200
    assert answer.json() == {"model_version": "reviews-3"}


@pytest.mark.parametrize("request_", requests("/versions"))
async def test_versions_is_a_list(world: AppWorld, request_: dict[str, Any]) -> None:
    answer = await replay(world, request_)
    assert answer.status_code == 200
    assert answer.json() == {"versions": ["reviews-3"]}


@pytest.mark.parametrize("request_", requests("/predict"))
async def test_predictions_can_be_stored_by_label_studio(world: AppWorld, request_: dict[str, Any]) -> None:
    answer = await replay(world, request_)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert len(results) == len(request_["body"]["tasks"])
    for prediction in results:
        check_prediction(prediction, "reviews-3")


@pytest.mark.parametrize("request_", requests("/webhook"))
async def test_each_event_is_accepted_and_recorded(world: AppWorld, request_: dict[str, Any]) -> None:
    action = request_["body"]["action"]
    assert action in metrics.EVENT_ACTIONS
    outcome = "stored" if action == "START_TRAINING" else "noted"
    before = metric_value("fitloop_webhook_events_total", action=action, outcome=outcome)
    answer = await replay(world, request_)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert metric_value("fitloop_webhook_events_total", action=action, outcome=outcome) == before + 1
    if action == "START_TRAINING":
        assert [command.id for command in world.events.commands] == [answer.json()["job"]]
        assert world.events.commands[0].project_id == 5
    else:
        assert world.events.notified == [(5, action)]


async def test_the_whole_capture_leaves_one_command(world: AppWorld) -> None:
    for request in CAPTURE:
        answer = await replay(world, request)
        assert answer.status_code == 200, request["case"]
        assert isinstance(answer.json(), dict)
    assert len(world.events.commands) == 1
    assert world.events.remembered[5] == ({}, "http://fitloop.test:9090")


def check_prediction(prediction: dict[str, Any], version: str) -> None:
    """Label Studio can store it, and uncertainty sampling can sort by it."""
    assert prediction["model_version"] == version
    assert math.isfinite(prediction["score"])
    assert 0 <= prediction["score"] <= 1
    (region,) = prediction["result"]
    assert (region["from_name"], region["to_name"], region["type"]) == ("sentiment", "text", "choices")
    assert region["value"]["choices"][0] in LABELS
    assert 0 <= region["score"] <= 1
