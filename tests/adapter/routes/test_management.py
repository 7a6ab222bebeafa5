"""Probes and metrics: beside the other routes, or at a port of their own without a password."""

from __future__ import annotations

import httpx

from services.adapter.app import create_app, create_management_app
from tests.support.app import AppWorld

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
