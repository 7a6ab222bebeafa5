"""Versions of model classes in a predictor: loaded ahead of requests, refused, asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from services.cluster.inference import RemoteInference
from services.core.domain import Served
from services.core.errors import EngineError, NotFound
from services.core.registry import Registry
from services.core.serving_table import ServingTableReader
from services.core.settings import ClusterSettings, ServingSettings
from services.core.store.files import FileStore
from services.mlbackend.calls import PredictCall
from services.predictor.inference import VersionInference
from services.predictor.manager import ModelManager
from services.predictor.routes import Routes
from tests.support.inference import local_inference
from tests.support.model_classes import SETTINGS, python_path, tasks_of
from tests.support.own_versions import OWN_KEY, publish_own_version, write_own_project
from tests.support.versions import write_serving_table
from tests.support.waiting import eventually


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    found = Registry(FileStore(tmp_path / "store"))
    write_own_project(found)
    return found


@pytest.fixture
def inference(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[VersionInference]:
    monkeypatch.setenv("PYTHONPATH", python_path())
    found = local_inference(registry, ServingSettings(workers=1), classes=SETTINGS)
    yield found
    found.close()


def build_manager(inference: VersionInference, registry: Registry, served: Served) -> ModelManager:
    write_serving_table(registry, {OWN_KEY: served})
    manager = ModelManager(inference, ServingTableReader(registry.store), "reload")
    manager.read_table()

    def is_ready() -> bool:
        manager.load_missing()
        return manager.ready

    eventually(is_ready)
    return manager


async def test_a_version_of_a_class_is_loaded_ahead(inference: VersionInference, registry: Registry) -> None:
    publish_own_version(registry, "v-1", "own_models:Keeper")
    publish_own_version(registry, "v-2", "own_models:BrokenSetup")
    manager = build_manager(inference, registry, Served("v-1", target="v-2"))
    state = manager.state()
    assert (state["ready"], state["held"]) == (True, {OWN_KEY: ["v-1"]})
    assert "ValueError: there is no model file" in state["refused"][OWN_KEY]["v-2"]
    assert inference.is_loaded(OWN_KEY, "v-1")
    (found,) = await inference.predict_tasks(OWN_KEY, "v-1", PredictCall(tasks_of("a")))
    assert [one["model_version"] for one in found] == ["v-1"], "whatever the class calls itself"
    with pytest.raises(EngineError, match="answers tasks and not texts"):
        await inference.scores(OWN_KEY, "v-1", ["a"])
    write_serving_table(registry, {OWN_KEY: Served("v-3")})
    manager.read_table()
    assert inference.loaded() == []


async def test_a_class_that_is_slow_to_load_delays_no_other(
    inference: VersionInference, registry: Registry
) -> None:
    publish_own_version(registry, "v-1", "own_models:SlowSetup")
    write_own_project(registry, key="6-1")
    publish_own_version(registry, "w-1", "own_models:Keeper", key="6-1")
    write_serving_table(registry, {OWN_KEY: Served("v-1"), "6-1": Served("w-1")})
    manager = ModelManager(inference, ServingTableReader(registry.store), "reload")
    manager.read_table()

    def is_held() -> bool:
        manager.load_missing()
        return bool(manager.state()["held"] == {"6-1": ["w-1"]})

    eventually(is_held)
    state = manager.state()
    assert not state["ready"], "the slow one is waited for until it is loaded or refused"
    assert state["delayed"] == {OWN_KEY: {"v-1": "The class of version v-1 is being loaded."}}


async def test_tasks_over_http(inference: VersionInference, registry: Registry) -> None:
    publish_own_version(registry, "v-1", "own_models:Interactive")
    publish_own_version(registry, "v-2", "own_models:Fragile")
    manager = build_manager(inference, registry, Served("v-1", target="v-2"))
    app = Starlette(routes=Routes(inference, manager).routes())
    known = ClusterSettings(predictor_url="http://models.test", predict_timeout_seconds=120.0)
    remote = RemoteInference(known, httpx.ASGITransport(app))
    try:
        context = {"result": [{"value": {"choices": ["politics"]}}]}
        (found,) = await remote.predict_tasks(OWN_KEY, "v-1", PredictCall(tasks_of("a"), context))
        assert found[0]["result"][0]["value"] == {"choices": ["politics"]}
        assert found[0]["model_version"] == "v-1"
        assert await remote.predict_tasks(OWN_KEY, "v-1", PredictCall(tasks_of("a", "b"))) == [[], []]
        with pytest.raises(EngineError, match="ValueError: no text like that"):
            await remote.predict_tasks(OWN_KEY, "v-2", PredictCall(tasks_of("raise")))
        with pytest.raises(NotFound):
            await remote.predict_tasks(OWN_KEY, "v-9", PredictCall(tasks_of("a")))
    finally:
        remote.close()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"tasks": [1]}', b'{"tasks": 1}'])
async def test_a_malformed_body_of_tasks_is_400(
    inference: VersionInference, registry: Registry, body: bytes
) -> None:
    manager = build_manager(inference, registry, Served())
    transport = httpx.ASGITransport(Starlette(routes=Routes(inference, manager).routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://models.test") as client:
        answer = await client.post(f"/v2/models/p{OWN_KEY}/tasks", content=body)
    assert answer.status_code == 400
