"""core.correlation: a request has one id, on its lines, in its answer, and in what is asked for its sake."""

from __future__ import annotations

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.core.telemetry import correlation
from services.core.telemetry.correlation import REQUEST_ID_HEADER, RequestIds, bind_ids, log_ids


async def _echo(_: Request) -> JSONResponse:
    structlog.contextvars.bind_contextvars(project=5)
    return JSONResponse(correlation.outgoing_headers())


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/", _echo)], middleware=[Middleware(RequestIds)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


async def test_a_given_id_is_bound_returned_and_passed_on(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers={REQUEST_ID_HEADER: "Made-by.ingress_7"})
    assert answer.headers[REQUEST_ID_HEADER] == "Made-by.ingress_7"
    assert answer.json() == {REQUEST_ID_HEADER: "Made-by.ingress_7"}


@pytest.mark.parametrize("given", ["", "with space", "x" * 65, '{"a":1}', "-begins", "a/b", "ä"])
async def test_an_invalid_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/", headers={REQUEST_ID_HEADER.encode(): given.encode()})
    assert answer.headers[REQUEST_ID_HEADER] != given
    assert len(answer.headers[REQUEST_ID_HEADER]) == 32


async def test_nothing_of_a_request_stays_bound_after_it(client: httpx.AsyncClient) -> None:
    await client.get("/")
    assert structlog.contextvars.get_contextvars() == {}
    assert correlation.outgoing_headers() == {}


def test_ids_are_unbound_after_the_block() -> None:
    with bind_ids(project=5):
        structlog.contextvars.bind_contextvars(version="v-1")
        assert structlog.contextvars.get_contextvars() == {"project": 5, "version": "v-1"}
    assert structlog.contextvars.get_contextvars() == {}


def test_a_projects_key_is_logged_as_its_id() -> None:
    assert log_ids("5-1700000000", "v-1") == {"project": 5, "version": "v-1"}
    assert log_ids("odd", "v-1") == {"project": "odd", "version": "v-1"}
