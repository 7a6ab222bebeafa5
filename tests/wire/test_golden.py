"""Requests recorded from a real Label Studio 1.23.2, replayed in order through routes and controller to a launched run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from anyio import to_thread

from services.adapter.app import create_app
from tests.support.controller import ControllerWorld
from tests.support.labelstudio import LABELS

CAPTURE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "label_studio_capture.json").read_text(encoding="utf-8")
)
_CONNECTION = {"host", "content-length", "connection"}
_CREATED = 1_795_473_352.0


async def test_golden_requests_lead_to_a_served_version() -> None:
    world = ControllerWorld()
    world.label_studio.add_project(5)
    world.label_studio.created[5] = _CREATED
    world.label_studio.label_many(5, 5)  # one less than would launch a run by itself
    world.tick()
    app = create_app(world.settings, world.board, world.events, world.inference, world.registry, world.runs)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:9090")
    trained = next(place for place, request in enumerate(CAPTURE) if request["case"] == "train")
    answer: Any = None
    async with client:
        for request in CAPTURE[: trained + 1]:
            assert world.launcher.launched == []
            answer = await _replay(client, request)
            world.tick(20.0)
            if request["path"] == "/setup":
                assert answer == {"model_version": "untrained"}
        assert world.launcher.launched == ["5-1"]
        (request_,) = [world.runs.request(name) for name in world.runs.names(5)]
        assert request_
        assert (request_.project_key, request_.cause) == (f"5-{_CREATED:.0f}", "requested")
        assert list(request_.commands) == [answer["job"]]
        assert world.inbox.commands() == []

        await to_thread.run_sync(world.complete_run, "5-1")  # its refresh has an event loop of its own
        for request in CAPTURE[trained + 1 :]:
            answer = await _replay(client, request)
            world.tick(1.0)
            if request["path"] == "/setup":
                assert answer == {"model_version": "support-1"}
            if request["path"] == "/predict":
                assert [found["model_version"] for found in answer["results"]] == ["support-1"]
                assert answer["results"][0]["result"][0]["value"]["choices"] == [LABELS[0]]
        assert world.launcher.launched == ["5-1"]


async def _replay(client: httpx.AsyncClient, request: dict[str, Any]) -> Any:
    """Send the request as recorded and return the answer."""
    headers = {key: value for key, value in request["headers"].items() if key.lower() not in _CONNECTION}
    content = None if request["body"] is None else json.dumps(request["body"])
    answer = await client.request(request["method"], request["path"], headers=headers, content=content)
    assert answer.status_code == 200, request["case"]
    return answer.json()
