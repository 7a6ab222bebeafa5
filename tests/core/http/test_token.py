"""The token between adapters and predictors."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.core.http.token import OPEN_PATHS, RequireToken, bearer_headers
from services.core.settings import ClusterSettings

TOKEN = "a-token-of-the-chart"


async def _answer(_: Request) -> Response:
    return PlainTextResponse("in")


async def status(path: str, headers: dict[str, str], token: str = TOKEN, since: float = 0.0) -> int:
    known = ClusterSettings(predictor_token=SecretStr(token), predictor_token_from=since)
    door = Middleware(RequireToken, settings=known, clock=lambda: 100.0)
    app = Starlette(routes=[Route("/{rest:path}", _answer)], middleware=[door])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://models.test") as client:
        return (await client.get(path, headers=headers)).status_code


@pytest.mark.parametrize(
    ("headers", "since", "expected"),
    [
        (bearer_headers(SecretStr(TOKEN)), 0.0, 200),
        ({}, 0.0, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 0.0, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 0.0, 401),
        ({}, 101.0, 200),
        ({}, 100.0, 401),
        ({"Authorization": "Bearer wrong"}, 101.0, 401),
    ],
    ids=[
        "right",
        "none",
        "longer",
        "another scheme",
        "none before its time",
        "none from then on",
        "wrong before",
    ],
)
async def test_authorization_by_token_and_time(headers: dict[str, str], since: float, expected: int) -> None:
    assert await status("/v2/models/p5-1/infer", headers, since=since) == expected


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_probes_and_metrics_are_open(path: str) -> None:
    assert await status(path, {}) == 200


async def test_without_a_token_all_requests_pass() -> None:
    assert bearer_headers(SecretStr("")) == {}
    assert await status("/state", {"Authorization": "Bearer any"}, token="") == 200
