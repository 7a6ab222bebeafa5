"""What a predictor holds: the table's versions, loaded before they are asked for; what it refuses, and when it is ready."""

from __future__ import annotations

from typing import Any

import pytest

from services.core.domain import Served, Serving
from services.core.errors import FitloopError, StoreUnreachable
from services.core.registry import Registry
from services.predictor.keeper import Keeper, currents, named, targets
from tests.predictor.conftest import MakeKeeper
from tests.support.versions import KEY, corrupt_file, write_serving_table
from tests.support.waiting import eventually


def turn(keeper: Keeper) -> dict[str, Any]:
    """One look and one round of loads; what the predictor says afterwards."""
    keeper.look()
    keeper.load()
    return keeper.state()


def megabytes(registry: Registry) -> float:
    files = registry.manifest(KEY, "v-1").files
    return sum(entry.size for file, entry in files.items() if file != "model.safetensors") / 1e6


def test_what_the_table_names() -> None:
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
    assert named(table) == {
        "1": frozenset("abc"),
        "2": frozenset("d"),
        "3": frozenset("e"),
        "4": frozenset(),
    }
    assert targets(table) == [("1", "c"), ("3", "e")]
    assert currents(table) == [("2", "d"), ("1", "a")]


def test_without_a_table_it_is_ready_and_holds_nothing(keeper_of: MakeKeeper) -> None:
    keeper = keeper_of()
    keeper.load()
    assert not keeper.ready
    assert turn(keeper)["ready"]


@pytest.mark.parametrize("mode", ["reload", "rolling"])
def test_it_is_ready_with_current_and_target_of_all_projects(
    keeper_of: MakeKeeper, registry: Registry, mode: str
) -> None:
    write_serving_table(registry, {KEY: Served("v-1", "v-2", "v-3"), "6-1": Served("w-1")})
    state = turn(keeper_of(mode))
    assert state["ready"]
    assert state["table"] == [1, 1]
    assert state["mode"] == mode
    assert {key: sorted(versions) for key, versions in state["held"].items()} == {
        KEY: ["v-1", "v-3"],
        "6-1": ["w-1"],
    }


def test_reload_loads_a_target_beside_what_it_holds_and_rolling_leaves_that_to_new_pods(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    reload, rolling = keeper_of("reload"), keeper_of("rolling")
    write_serving_table(registry, {KEY: Served("v-1")})
    assert turn(reload)["held"] == turn(rolling)["held"] == {KEY: ["v-1"]}
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    assert sorted(turn(reload)["held"][KEY]) == ["v-1", "v-2"]
    assert turn(rolling)["held"] == {KEY: ["v-1"]}
    assert rolling.may_serve(KEY, "v-2")


def test_a_broken_version_is_refused_and_all_others_are_served(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    whole = corrupt_file(registry, "v-2")
    write_serving_table(registry, {KEY: Served("v-1", target="v-2"), "6-1": Served("w-1")})
    keeper = keeper_of()
    state = turn(keeper)
    assert state["ready"]
    assert state["held"] == {KEY: ["v-1"], "6-1": ["w-1"]}
    assert "differs from its manifest" in state["refused"][KEY]["v-2"]
    registry.store.write(f"projects/{KEY}/versions/v-2/ct2/model.bin", whole)
    assert "v-2" in turn(keeper)["refused"][KEY], "it is not tried again each second"
    later = keeper.clock() + 61
    keeper.clock = lambda: later
    state = turn(keeper)
    assert (sorted(state["held"][KEY]), state["refused"]) == (["v-1", "v-2"], {})


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [(b"{", "is broken"), (None, "holds no|no such|No")],
)
def test_a_version_without_a_readable_manifest_is_refused(
    keeper_of: MakeKeeper, registry: Registry, manifest: bytes | None, reason: str
) -> None:
    key = f"projects/{KEY}/versions/v-2/manifest.json"
    if manifest is None:
        registry.store.delete(key)
    else:
        registry.store.write(key, manifest)
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    state = turn(keeper_of())
    assert state["ready"]
    assert any(part in state["refused"][KEY]["v-2"] for part in reason.split("|"))


def test_a_version_of_a_newer_release_is_not_refused_and_holds_up_nothing(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    key = f"projects/{KEY}/versions/v-2/manifest.json"
    whole = registry.store.read(key)
    registry.store.write(key, b'{"format": 99}')
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    keeper = keeper_of()
    state = turn(keeper)
    assert state["ready"]
    assert state["refused"] == {}
    assert state["delayed"][KEY]["v-2"].startswith("this predictor is older than the version: ")
    registry.store.write(key, whole)
    assert turn(keeper)["delayed"], "it is not tried again each second"
    later = keeper.clock() + 61
    keeper.clock = lambda: later
    state = turn(keeper)
    assert (sorted(state["held"][KEY]), state["delayed"]) == (["v-1", "v-2"], {})


def test_a_withdrawn_target_leaves_and_its_refusal_is_forgotten(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    corrupt_file(registry, "v-3")
    keeper = keeper_of()
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    assert sorted(turn(keeper)["held"][KEY]) == ["v-1", "v-2"]
    write_serving_table(registry, {KEY: Served("v-1", target="v-3")})
    assert turn(keeper)["held"] == {KEY: ["v-1"]}
    write_serving_table(registry, {KEY: Served("v-1")})
    assert turn(keeper)["refused"] == {}


def test_only_what_the_table_names_or_named_last_for_that_project_may_be_asked_for(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    keeper = keeper_of()
    write_serving_table(registry, {KEY: Served("v-2", "v-1"), "6-1": Served()})
    turn(keeper)
    write_serving_table(registry, {KEY: Served("v-3", "v-2"), "6-1": Served()})
    turn(keeper)
    write_serving_table(registry, {KEY: Served("v-3", "v-2"), "6-1": Served("w-1")})
    turn(keeper)
    assert all(keeper.may_serve(KEY, version) for version in ("v-1", "v-2", "v-3"))
    assert not keeper.may_serve(KEY, "v-4")
    assert not keeper.may_serve("7-1", "v-1")
    write_serving_table(registry, {"6-1": Served("w-1")})
    assert turn(keeper)["held"] == {"6-1": ["w-1"]}
    assert not keeper.may_serve(KEY, "v-3"), "a deleted project is served no more"


def test_what_serves_but_has_no_room_is_left_to_whoever_asks(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    keeper = keeper_of(memory_mb=1.5 * megabytes(registry))
    write_serving_table(registry, {KEY: Served("v-1", since=1.0), "6-1": Served("w-1", since=2.0)})
    state = turn(keeper)
    assert (state["ready"], state["held"]) == (True, {"6-1": ["w-1"]})
    assert turn(keeper)["held"] == {"6-1": ["w-1"]}
    keeper.inference.prepare(KEY, "v-1")
    assert turn(keeper)["held"] == {KEY: ["v-1"]}, "what was asked for last stays"


def test_more_projects_than_may_be_held_do_not_keep_it_from_being_ready(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    keeper = keeper_of(loaded_models=2)
    write_serving_table(
        registry, {KEY: Served("v-1", since=1.0), "6-1": Served("w-1"), "7-1": Served("gone", since=2.0)}
    )
    state = turn(keeper)
    assert state["ready"]
    assert set(state["held"]) == {KEY, "6-1"}


def test_a_version_larger_than_the_whole_budget_is_refused(keeper_of: MakeKeeper, registry: Registry) -> None:
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    state = turn(keeper_of(memory_mb=0.5 * megabytes(registry)))
    assert state["ready"]
    assert "FITLOOP_MODEL_MEMORY_MB" in state["refused"][KEY]["v-2"]


def test_a_target_waits_until_there_is_room_beside_what_is_in_use(
    keeper_of: MakeKeeper, registry: Registry
) -> None:
    keeper = keeper_of(memory_mb=1.5 * megabytes(registry))
    write_serving_table(registry, {KEY: Served("v-1")})
    turn(keeper)
    held = keeper.inference._models.acquire((KEY, "v-1"))
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    state = turn(keeper)
    assert (state["held"], state["refused"]) == ({KEY: ["v-1"]}, {})
    assert "no memory for version v-2" in state["delayed"][KEY]["v-2"]
    held.release()
    state = turn(keeper)
    assert (state["held"], state["delayed"]) == ({KEY: ["v-2"]}, {})


def test_what_was_refused_to_who_asked_is_said(keeper_of: MakeKeeper, registry: Registry) -> None:
    keeper = keeper_of("rolling")
    write_serving_table(registry, {KEY: Served("v-1", "v-2")})
    turn(keeper)
    corrupt_file(registry, "v-2")
    with pytest.raises(FitloopError):
        keeper.inference._models.acquire((KEY, "v-2")).future.result(20)
    assert list(turn(keeper)["refused"][KEY]) == ["v-2"]


def test_before_the_flip_the_version_before_is_told(keeper_of: MakeKeeper, registry: Registry) -> None:
    keeper = keeper_of()
    write_serving_table(registry, {KEY: Served("v-2", "v-1", since=4e9), "6-1": Served("w-1", since=1.0)})
    turn(keeper)
    assert (keeper.told(KEY), keeper.told("6-1"), keeper.told("7-1")) == ("v-1", "w-1", None)


def test_it_stays_ready_and_serves_while_the_bucket_is_away(
    keeper_of: MakeKeeper, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of()
    write_serving_table(registry, {KEY: Served("v-1")})
    away, broken = StoreUnreachable("the bucket is away"), {"is": False}
    original = type(registry.store).read_changed

    def read(store: Any, key: str, mark: str = "") -> Any:
        if broken["is"]:
            raise away
        return original(store, key, mark)

    monkeypatch.setattr(type(registry.store), "read_changed", read)
    keeper.start()
    try:
        eventually(lambda: keeper.ready)
        broken["is"] = True
        eventually(lambda: keeper._trouble == "the bucket is away")
        assert keeper.ready
        assert keeper.state()["held"] == {KEY: ["v-1"]}
        broken["is"] = False
        write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
        eventually(lambda: len(keeper.state()["held"][KEY]) == 2)
        assert keeper._trouble == ""
    finally:
        keeper.stop()


def test_a_version_whose_files_cannot_be_reached_keeps_a_new_pod_from_being_ready(
    keeper_of: MakeKeeper, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_serving_table(registry, {KEY: Served("v-1")})
    keeper = keeper_of()
    with monkeypatch.context() as patched:

        def local(*_: object) -> None:
            raise StoreUnreachable("the bucket is slow")

        patched.setattr(type(registry.store), "local", local)
        state = turn(keeper)
        assert (state["ready"], state["delayed"]) == (False, {KEY: {"v-1": "the bucket is slow"}})
    assert turn(keeper)["ready"]
