"""The predictor's routes: v1, v2, their errors, and what is forbidden."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.core.domain import Served
from services.core.errors import EngineError, Overloaded, StoreUnreachable
from services.core.http.limits import Budget
from services.core.registry import Registry
from services.engine.loading import EncoderKey, Load, Loader
from services.predictor.manager import ModelManager
from services.predictor.routes import MAX_BODY_BYTES, PARSE_IN_THREAD_BYTES, Routes
from tests.predictor.conftest import BuildManager
from tests.support.metrics import metric_growth, metric_value
from tests.support.versions import KEY, corrupt_file, write_serving_table
from tests.support.waiting import eventually

V2 = f"/v2/models/p{KEY}/infer"
V1 = f"/v1/models/p{KEY}:predict"


@pytest.fixture
def manager(build_manager: BuildManager, registry: Registry) -> ModelManager:
    """A manager for project 5, with current v-1 and previous v-2."""
    found = build_manager("rolling")
    write_serving_table(registry, {KEY: Served("v-1", "v-2")})
    found.read_table()
    found.load_missing()
    return found


@pytest.fixture
async def client(manager: ModelManager) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=Routes(manager.inference, manager).routes())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://predictor.test") as found:
        yield found


def build_v2(*texts: str, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {"inputs": [tensor], "parameters": parameters}


async def test_v2_uses_served_or_named_version(
    client: httpx.AsyncClient,
) -> None:
    served = (await client.post(V2, json=build_v2("a", "b"))).json()
    assert served["parameters"] == {"version": "v-1"}
    assert served["outputs"][0]["shape"] == [2, 2]
    named = (await client.post(V2, json=build_v2("a", version="v-2"))).json()
    assert named["parameters"] == {"version": "v-2"}


async def test_load_whose_client_has_gone_is_dropped(
    manager: ModelManager, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_serving_table(registry, {KEY: Served("v-2", "v-3"), "6-1": Served("w-1")})
    manager.read_table()
    may_load, planned, plan = threading.Event(), list[str](), Loader.plan

    def held_up(loader: Loader, key: EncoderKey) -> Load:
        planned.append(key.version)
        assert may_load.wait(20)
        return plan(loader, key)

    monkeypatch.setattr(Loader, "plan", held_up)
    loading = asyncio.create_task(manager.inference.scores("6-1", "w-1", ["a"]))
    await asyncio.to_thread(eventually, lambda: planned == ["w-1"])
    answers, dropped = list[Any](), metric_growth("fitloop_engine_encoder_loads_total", outcome="dropped")
    messages = [{"type": "http.request", "body": json.dumps(build_v2("a")).encode()}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        entries = manager.inference._encoders._entries
        await asyncio.to_thread(eventually, lambda: EncoderKey("", KEY, "v-2") in entries)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": V2, "headers": [], "query_string": b""}
    await Starlette(routes=Routes(manager.inference, manager).routes())(scope, receive, send)
    assert answers[0]["status"] == 503
    await asyncio.to_thread(eventually, lambda: dropped() == 1)
    may_load.set()
    await loading
    assert planned == ["w-1"]


async def test_v1_ignores_the_content_type(client: httpx.AsyncClient) -> None:
    for kind in ("application/json; charset=utf-8", "text/plain", ""):
        answer = await client.post(V1, content=b'{"instances": ["a"]}', headers={"Content-Type": kind})
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["label"] in {"A", "B"}


async def test_large_body_is_answered(client: httpx.AsyncClient) -> None:
    texts = ["a text of some words " * 10] * (PARSE_IN_THREAD_BYTES // 200)
    answer = await client.post(V2, json=build_v2(*texts))
    assert answer.json()["outputs"][0]["shape"] == [len(texts), 2]


@pytest.mark.parametrize("url", [V1, V2])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"inputs": 1, "instances": 1}'])
async def test_malformed_body_is_400(client: httpx.AsyncClient, url: str, body: bytes) -> None:
    answer = await client.post(url, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].endswith(".")


async def test_unnamed_version_is_404(client: httpx.AsyncClient) -> None:
    for url, version in (
        (V2, "v-3"),
        (V2, "../v-1"),
        ("/v2/models/p7-1/infer", "v-1"),
        ("/v2/models/x/infer", "v-1"),
    ):
        answer = await client.post(url, json=build_v2("a", version=version))
        assert answer.status_code == 404
        assert "serves no version" in answer.json()["error"]


async def test_broken_version_is_424(client: httpx.AsyncClient, registry: Registry) -> None:
    corrupt_file(registry, "v-2")
    answer = await client.post(V2, json=build_v2("a", version="v-2"))
    assert answer.status_code == 424
    assert "differs from its manifest" in answer.json()["error"]


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (Overloaded("full"), 503, "overloaded"),
        (StoreUnreachable("away"), 503, "failed"),
        (EngineError("broken"), 424, "refused"),
        (RuntimeError("a secret"), 500, "failed"),
    ],
)
async def test_status_and_outcome_of_each_error(
    client: httpx.AsyncClient,
    manager: ModelManager,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    outcome: str,
) -> None:
    async def fail(*_: object) -> None:
        await asyncio.sleep(0)
        raise error

    monkeypatch.setattr(manager.inference, "scores", fail)
    before = metric_value("fitloop_predictor_requests_total", outcome=outcome)
    answer = await client.post(V2, json=build_v2("a"))
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert "secret" not in answer.text
    assert metric_value("fitloop_predictor_requests_total", outcome=outcome) == before + 1


async def test_metadata_and_readiness_routes(client: httpx.AsyncClient, manager: ModelManager) -> None:
    async def get(url: str) -> Any:
        answer = await client.get(url)
        return answer.status_code, answer.json()

    assert await get("/v2/health/live") == (200, {"live": True})
    assert await get("/v2/health/ready") == (200, {"ready": True})
    assert await get("/v1/models") == await get("/v2/models") == (200, {"models": [f"p{KEY}"]})
    for url in (f"/v1/models/p{KEY}", f"/v2/models/p{KEY}/ready"):
        assert await get(url) == (200, {"name": f"p{KEY}", "ready": True, "version": "v-1"})
    status, body = await get(f"/v2/models/p{KEY}")
    assert (status, body["name"], body["versions"]) == (200, f"p{KEY}", ["v-1"])
    assert body["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    for url in ("/v1/models/x", "/v2/models/px", "/v2/models/x/ready"):
        assert (await get(url))[0] == 404
    manager.inference.evict(KEY, "v-1")
    manager.ready = False
    assert (await get(f"/v2/models/p{KEY}/ready"))[0] == 503
    assert (await get("/v2/health/ready"))[0] == 503


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_repository_api_is_403(client: httpx.AsyncClient, action: str) -> None:
    answer = await client.post(f"/v2/repository/models/p{KEY}/{action}", content=json.dumps({}))
    assert answer.status_code == 403
    assert "fitloop promote" in answer.json()["error"]


@pytest.mark.parametrize("url", [f"/v1/models/p{KEY}:explain", f"/v2/models/p{KEY}/versions/v-1/infer"])
async def test_unknown_protocol_route_is_404(client: httpx.AsyncClient, url: str) -> None:
    answer = await client.post(url, json={})
    assert answer.status_code == 404
    assert "parameters.version" in answer.json()["error"]


async def test_oversized_body_is_refused(manager: ModelManager) -> None:
    app = Starlette(routes=Routes(manager.inference, manager, Budget(1000)).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p.test") as found:
        large = await found.post(V2, json=build_v2("a" * 2000))
        larger = await found.post(V2, content=b"x", headers={"Content-Length": str(MAX_BODY_BYTES + 1)})
        zipped = await found.post(V2, content=b"x", headers={"Content-Encoding": "gzip"})
    assert [answer.status_code for answer in (large, larger, zipped)] == [413, 413, 415]
    assert larger.json()["error"] == "The body is larger than 64 MB: send fewer texts at once."
