"""Which versions a predictor loads ahead of requests, what it refuses, and when it is ready."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.core.domain import EncoderManifest, Served, Serving
from services.core.encoders import Encoders
from services.core.errors import FitloopError, StoreUnreachable
from services.core.registry import Registry
from services.engine.loading import EncoderKey, Loader
from services.predictor.manager import ModelManager
from services.predictor.named import currents, named_versions, targets
from tests.predictor.conftest import BuildManager
from tests.support.encoders import build_tiny_encoder, publish_head
from tests.support.versions import KEY, corrupt_file, write_serving_table
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EncoderManifest]:
    folder = tmp_path_factory.mktemp("encoder") / "files"
    return folder, build_tiny_encoder(folder, int8=False)


@pytest.fixture
def encoder(registry: Registry, built: tuple[Path, EncoderManifest]) -> str:
    """Return the digest of an encoder in the registry's bucket."""
    return Encoders(registry.store).publish(*built).digest


def run_once(manager: ModelManager) -> dict[str, Any]:
    """Read the table and load once; return the predictor's state."""
    manager.read_table()
    manager.load_missing()
    return manager.state()


def megabytes(registry: Registry) -> float:
    return Loader(registry).whole_model_bytes(registry.manifest(KEY, "v-1")) / 1e6


def test_versions_named_by_the_table() -> None:
    table = Serving(
        1,
        1,
        {
            "1": Served("a", "b", "c", since=1.0),
            "2": Served("d", since=2.0),
            "3": Served(target="e"),
            "4": Served(),
        },
    )
    assert named_versions(table) == {
        "1": frozenset("abc"),
        "2": frozenset("d"),
        "3": frozenset("e"),
        "4": frozenset(),
    }
    assert targets(table) == [("1", "c"), ("3", "e")]
    assert currents(table) == [("2", "d"), ("1", "a")]


def test_ready_and_empty_without_a_table(build_manager: BuildManager) -> None:
    manager = build_manager()
    manager.load_missing()
    assert not manager.ready
    assert run_once(manager)["ready"]


@pytest.mark.parametrize("mode", ["reload", "rolling"])
def test_ready_once_current_and_target_are_loaded(
    build_manager: BuildManager, registry: Registry, mode: str
) -> None:
    write_serving_table(registry, {KEY: Served("v-1", "v-2", "v-3"), "6-1": Served("w-1")})
    state = run_once(build_manager(mode))
    assert state["ready"]
    assert state["table"] == [1, 1]
    assert state["mode"] == mode
    assert {key: sorted(versions) for key, versions in state["held"].items()} == {
        KEY: ["v-1", "v-3"],
        "6-1": ["w-1"],
    }


def test_only_reload_loads_a_new_target_in_place(build_manager: BuildManager, registry: Registry) -> None:
    reload, rolling = build_manager("reload"), build_manager("rolling")
    write_serving_table(registry, {KEY: Served("v-1")})
    assert run_once(reload)["held"] == run_once(rolling)["held"] == {KEY: ["v-1"]}
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    assert sorted(run_once(reload)["held"][KEY]) == ["v-1", "v-2"]
    assert run_once(rolling)["held"] == {KEY: ["v-1"]}
    assert rolling.may_serve(KEY, "v-2")


@pytest.mark.parametrize("mode", ["reload", "rolling"])
def test_head_is_loaded_beside_its_encoder_in_each_mode(
    build_manager: BuildManager, registry: Registry, encoder: str, mode: str
) -> None:
    for number in (1, 2):
        publish_head(registry, encoder, f"h-{number}", KEY, seed=number)
    publish_head(registry, encoder, "other-1", "6-1")
    write_serving_table(registry, {KEY: Served("h-1")})
    manager = build_manager(mode)
    assert run_once(manager)["encoders"] == [encoder]
    write_serving_table(registry, {KEY: Served("h-1", target="h-2"), "6-1": Served(target="other-1")})
    state = run_once(manager)
    assert {key: sorted(held) for key, held in state["held"].items()} == {
        KEY: ["h-1", "h-2"],
        "6-1": ["other-1"],
    }


def test_rolling_leaves_what_needs_another_encoder_to_new_pods(
    build_manager: BuildManager, registry: Registry, encoder: str
) -> None:
    publish_head(registry, encoder, "h-1", KEY)
    write_serving_table(registry, {KEY: Served("v-1")})
    manager = build_manager("rolling")
    run_once(manager)
    write_serving_table(registry, {KEY: Served("v-1", target="h-1"), "6-1": Served(target="w-1")})
    state = run_once(manager)
    assert (state["held"], state["encoders"]) == ({KEY: ["v-1"]}, [])
    assert state["refused"] == state["delayed"] == {}


def test_broken_head_is_refused_by_running_pods_alone_for_its_project(
    build_manager: BuildManager, registry: Registry, encoder: str
) -> None:
    publish_head(registry, encoder, "h-1", KEY)
    publish_head(registry, encoder, "h-2", KEY, seed=2)
    publish_head(registry, encoder, "other-1", "6-1")
    write_serving_table(registry, {KEY: Served("h-1")})
    manager = build_manager("rolling")
    run_once(manager)
    registry.store.delete(f"projects/{KEY}/versions/h-2/head.safetensors")
    write_serving_table(registry, {KEY: Served("h-1", target="h-2"), "6-1": Served(target="other-1")})
    state = run_once(manager)
    assert state["held"] == {KEY: ["h-1"], "6-1": ["other-1"]}
    assert list(state["refused"]) == [KEY]


def test_table_is_read_when_the_state_is_asked_for(
    build_manager: BuildManager, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.predictor.manager.READ_SECONDS", 600.0)
    write_serving_table(registry, {KEY: Served("v-1")})
    manager = build_manager("reload")
    manager.start()
    try:
        eventually(lambda: manager.ready, every=0.01)
        write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
        manager.read_table_soon()
        eventually(lambda: "v-2" in manager.state()["held"][KEY], every=0.01)
    finally:
        manager.stop()


def test_broken_version_does_not_block_others(build_manager: BuildManager, registry: Registry) -> None:
    whole = corrupt_file(registry, "v-2")
    write_serving_table(registry, {KEY: Served("v-1", target="v-2"), "6-1": Served("w-1")})
    manager = build_manager()
    state = run_once(manager)
    assert state["ready"]
    assert state["held"] == {KEY: ["v-1"], "6-1": ["w-1"]}
    assert "differs from its manifest" in state["refused"][KEY]["v-2"]
    registry.store.write(f"projects/{KEY}/versions/v-2/ct2/model.bin", whole)
    assert "v-2" in run_once(manager)["refused"][KEY], "it is not tried again each second"
    later = manager.clock() + 61
    manager.clock = lambda: later
    state = run_once(manager)
    assert (sorted(state["held"][KEY]), state["refused"]) == (["v-1", "v-2"], {})


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [(b"{", "is broken"), (None, "has no object|no such|No")],
)
def test_unreadable_manifest_is_refused(
    build_manager: BuildManager, registry: Registry, manifest: bytes | None, reason: str
) -> None:
    key = f"projects/{KEY}/versions/v-2/manifest.json"
    if manifest is None:
        registry.store.delete(key)
    else:
        registry.store.write(key, manifest)
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    state = run_once(build_manager())
    assert state["ready"]
    assert any(part in state["refused"][KEY]["v-2"] for part in reason.split("|"))


def test_version_of_a_newer_release_is_delayed(build_manager: BuildManager, registry: Registry) -> None:
    key = f"projects/{KEY}/versions/v-2/manifest.json"
    whole = registry.store.read(key)
    registry.store.write(key, b'{"format": 99}')
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    manager = build_manager()
    state = run_once(manager)
    assert state["ready"]
    assert state["refused"] == {}
    assert state["delayed"][KEY]["v-2"].startswith("this predictor is older than the version: ")
    registry.store.write(key, whole)
    assert run_once(manager)["delayed"], "it is not tried again each second"
    later = manager.clock() + 61
    manager.clock = lambda: later
    state = run_once(manager)
    assert (sorted(state["held"][KEY]), state["delayed"]) == (["v-1", "v-2"], {})


def test_withdrawn_target_is_evicted_and_forgiven(build_manager: BuildManager, registry: Registry) -> None:
    corrupt_file(registry, "v-3")
    manager = build_manager()
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    assert sorted(run_once(manager)["held"][KEY]) == ["v-1", "v-2"]
    write_serving_table(registry, {KEY: Served("v-1", target="v-3")})
    assert run_once(manager)["held"] == {KEY: ["v-1"]}
    write_serving_table(registry, {KEY: Served("v-1")})
    assert run_once(manager)["refused"] == {}


def test_may_serve_only_named_or_last_named_versions(build_manager: BuildManager, registry: Registry) -> None:
    manager = build_manager()
    write_serving_table(registry, {KEY: Served("v-2", "v-1"), "6-1": Served()})
    run_once(manager)
    write_serving_table(registry, {KEY: Served("v-3", "v-2"), "6-1": Served()})
    run_once(manager)
    write_serving_table(registry, {KEY: Served("v-3", "v-2"), "6-1": Served("w-1")})
    run_once(manager)
    assert all(manager.may_serve(KEY, version) for version in ("v-1", "v-2", "v-3"))
    assert not manager.may_serve(KEY, "v-4")
    assert not manager.may_serve("7-1", "v-1")
    write_serving_table(registry, {"6-1": Served("w-1")})
    assert run_once(manager)["held"] == {"6-1": ["w-1"]}
    assert not manager.may_serve(KEY, "v-3"), "a deleted project is served no more"


def test_current_without_room_loads_on_demand(build_manager: BuildManager, registry: Registry) -> None:
    manager = build_manager(memory_mb=1.5 * megabytes(registry))
    write_serving_table(registry, {KEY: Served("v-1", since=1.0), "6-1": Served("w-1", since=2.0)})
    state = run_once(manager)
    assert (state["ready"], state["held"]) == (True, {"6-1": ["w-1"]})
    assert run_once(manager)["held"] == {"6-1": ["w-1"]}
    manager.inference.prepare(KEY, "v-1")
    assert run_once(manager)["held"] == {KEY: ["v-1"]}, "the most recently used stays"


def test_ready_with_more_projects_than_fit(build_manager: BuildManager, registry: Registry) -> None:
    manager = build_manager(loaded_models=2)
    write_serving_table(
        registry, {KEY: Served("v-1", since=1.0), "6-1": Served("w-1"), "7-1": Served("gone", since=2.0)}
    )
    state = run_once(manager)
    assert state["ready"]
    assert set(state["held"]) == {KEY, "6-1"}


def test_version_above_the_memory_budget_is_refused(build_manager: BuildManager, registry: Registry) -> None:
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    state = run_once(build_manager(memory_mb=0.5 * megabytes(registry)))
    assert state["ready"]
    assert "FITLOOP_MODEL_MEMORY_MB" in state["refused"][KEY]["v-2"]


def test_target_waits_for_memory_in_use(build_manager: BuildManager, registry: Registry) -> None:
    manager = build_manager(memory_mb=1.5 * megabytes(registry))
    write_serving_table(registry, {KEY: Served("v-1")})
    run_once(manager)
    entry = manager.inference._encoders.acquire(EncoderKey("", KEY, "v-1"))
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    state = run_once(manager)
    assert (state["held"], state["refused"]) == ({KEY: ["v-1"]}, {})
    assert "no memory for version v-2" in state["delayed"][KEY]["v-2"]
    entry.release()
    state = run_once(manager)
    assert (state["held"], state["delayed"]) == ({KEY: ["v-2"]}, {})


def test_refusals_of_requests_are_reported(build_manager: BuildManager, registry: Registry) -> None:
    manager = build_manager("rolling")
    write_serving_table(registry, {KEY: Served("v-1", "v-2")})
    run_once(manager)
    corrupt_file(registry, "v-2")
    with pytest.raises(FitloopError):
        asyncio.run(manager.inference.scores(KEY, "v-2", ["text"]))
    assert list(run_once(manager)["refused"][KEY]) == ["v-2"]


def test_previous_version_is_effective_before_the_flip(
    build_manager: BuildManager, registry: Registry
) -> None:
    manager = build_manager()
    write_serving_table(registry, {KEY: Served("v-2", "v-1", since=4e9), "6-1": Served("w-1", since=1.0)})
    run_once(manager)
    assert (
        manager.effective_version(KEY),
        manager.effective_version("6-1"),
        manager.effective_version("7-1"),
    ) == ("v-1", "w-1", None)


def test_stays_ready_while_the_bucket_is_unreachable(
    build_manager: BuildManager, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = build_manager()
    write_serving_table(registry, {KEY: Served("v-1")})
    away, broken = StoreUnreachable("the bucket is away"), {"is": False}
    original = type(registry.store).read_changed

    def read(store: Any, key: str, mark: str = "") -> Any:
        if broken["is"]:
            raise away
        return original(store, key, mark)

    monkeypatch.setattr(type(registry.store), "read_changed", read)
    manager.start()
    try:
        eventually(lambda: manager.ready)
        broken["is"] = True
        eventually(lambda: manager._problem.problem == "the bucket is away")
        assert manager.ready
        assert manager.state()["held"] == {KEY: ["v-1"]}
        broken["is"] = False
        write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
        eventually(lambda: len(manager.state()["held"][KEY]) == 2)
        assert manager._problem.problem == ""
    finally:
        manager.stop()


def test_not_ready_while_files_are_unreachable(
    build_manager: BuildManager, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_serving_table(registry, {KEY: Served("v-1")})
    manager = build_manager()
    with monkeypatch.context() as patched:

        def local(*_: object) -> None:
            raise StoreUnreachable("the bucket is slow")

        patched.setattr(type(registry.store), "local", local)
        state = run_once(manager)
        assert (state["ready"], state["delayed"]) == (False, {KEY: {"v-1": "the bucket is slow"}})
    assert run_once(manager)["ready"]
