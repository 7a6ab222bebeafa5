"""What errors become, and that every route is measured."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from services.adapter import metrics
from services.adapter.app import create_app, create_management_app, error_response
from services.core.errors import BadConfig
from tests.support.app import AppWorld


def test_every_route_has_its_metrics(world: AppWorld) -> None:
    assert {route.path for route in world.app.routes if isinstance(route, Route)} == set(metrics.ROUTES)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/predict", 405)])
async def test_what_is_not_there_is_json_too(world: AppWorld, method: str, path: str, status: int) -> None:
    answer = await world.client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert answer.json()["detail"].startswith("GET is not supported here")


async def test_a_bug_is_500_and_logged_without_its_message(
    world: AppWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serve()
    world.inference.error = KeyError("a text that somebody wrote")
    answer = await world.client.post("/predict", json={"project": 5, "tasks": [{"data": {"text": "abc"}}]})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Unexpected error: see Fitloop's log.", "status": 500}
    printed = "".join(capsys.readouterr())
    assert "KeyError" in printed
    assert "support/fakes.py" in printed
    assert "somebody wrote" not in printed


async def test_a_caller_who_leaves_is_no_error_of_ours(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leaves(_: object) -> None:
        raise ClientDisconnect

    monkeypatch.setattr("services.adapter.routes.predictions._read", leaves)
    assert (await world.client.post("/predict", json={})).status_code == 400


def test_an_error_of_another_kind_is_500_with_its_sentence() -> None:
    answer = error_response(BadConfig("Set MODEL_DIR."))
    assert answer.status_code == 500
    assert b"Set MODEL_DIR." in bytes(answer.body)


async def test_what_is_not_http_passes_the_gate(world: AppWorld) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"} if not sent else {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await world.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


ROUTES = ("/livez", "/readyz", "/metrics")


async def test_the_management_app_has_only_probes_and_metrics(world: AppWorld) -> None:
    app = create_management_app(world.board)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
        assert [(await client.get(path)).status_code for path in ROUTES] == [200] * 3
        assert (await client.get("/api/projects")).status_code == 404
        world.board.ready.clear()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200


async def test_then_the_other_port_lacks_them(world: AppWorld) -> None:
    app = create_app(
        world.settings,
        world.board,
        world.events,
        world.inference,
        world.registry,
        world.runs,
        management=False,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert [(await client.get(path)).status_code for path in ROUTES] == [404] * 3
        assert (await client.get("/health")).status_code == 200
