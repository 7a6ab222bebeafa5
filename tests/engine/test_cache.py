"""Which models the cache keeps, evicts and refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import pytest

from services.core.errors import CorruptVersion, EngineError, FitloopError, Overloaded, StoreUnreachable
from services.engine.cache import ModelCache
from services.engine.compute import VersionKey
from services.engine.model import Model


class FakeModel:
    """A model that can only be closed."""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def models() -> Callable[[int], ModelCache]:
    return lambda limit: ModelCache(lambda _: cast("Any", FakeModel()), limit)


def _load_all(models: ModelCache, *keys: VersionKey) -> list[VersionKey]:
    for key in keys:
        entry = models.acquire(key)
        entry.future.result(10)
        entry.release()
    return [key for key in dict.fromkeys(keys) if models.get(key) is not None]


def test_project_keeps_its_two_newest_versions(models: Callable[[int], ModelCache]) -> None:
    found = models(8)
    keys = [VersionKey("5-1", f"v-{number}") for number in range(5)]
    assert _load_all(found, *keys, VersionKey("6-1", "w-1")) == [keys[3], keys[4], VersionKey("6-1", "w-1")]
    found.close()


def test_least_recently_used_are_evicted(models: Callable[[int], ModelCache]) -> None:
    found = models(3)
    keys = [VersionKey(f"{number}-1", "v-1") for number in range(4)]
    assert _load_all(found, *keys[:3], keys[0], keys[3]) == [keys[0], keys[2], keys[3]]
    found.close()


def test_get_returns_the_loaded_model(models: Callable[[int], ModelCache]) -> None:
    found = models(2)
    assert found.get(VersionKey("5-1", "v-1")) is None
    entry = found.acquire(VersionKey("5-1", "v-1"))
    loaded: Model = entry.future.result(10)
    assert found.get(VersionKey("5-1", "v-1")) is loaded
    entry.release()
    found.close()


def _build_cache(budget: float, **sizes: int) -> ModelCache:
    return ModelCache(
        lambda _: cast("Any", FakeModel()),
        8,
        size=lambda key: sizes[key[1].partition("-")[0]],
        budget=budget,
    )


def test_memory_budget_evicts_least_recently_used() -> None:
    found = _build_cache(100, v=40, w=60)
    assert _load_all(found, VersionKey("5-1", "v-1"), VersionKey("6-1", "v-1")) == [
        VersionKey("5-1", "v-1"),
        VersionKey("6-1", "v-1"),
    ]
    assert _load_all(found, VersionKey("5-1", "v-1"), VersionKey("7-1", "w-1")) == [
        VersionKey("5-1", "v-1"),
        VersionKey("7-1", "w-1"),
    ]
    assert found.get(VersionKey("6-1", "v-1")) is None
    found.close()


def test_models_in_use_are_not_evicted() -> None:
    found = _build_cache(100, v=60)
    entry = found.acquire(VersionKey("5-1", "v-1"))
    entry.future.result(10)
    with pytest.raises(Overloaded, match="no memory for version v-2 beside those in use"):
        _load_all(found, VersionKey("5-1", "v-2"))
    assert found.refusals() == {}, "that says nothing of the version"
    entry.release()
    assert _load_all(found, VersionKey("5-1", "v-2")) == [VersionKey("5-1", "v-2")]
    found.close()


def test_oversized_version_is_refused_without_eviction() -> None:
    found = _build_cache(100, v=60, w=101)
    _load_all(found, VersionKey("5-1", "v-1"))
    with pytest.raises(EngineError, match="FITLOOP_MODEL_MEMORY_MB"):
        _load_all(found, VersionKey("6-1", "w-1"))
    assert found.loaded_keys() == [VersionKey("5-1", "v-1")]
    assert list(found.refusals()) == [VersionKey("6-1", "w-1")]
    found.close()


def test_has_room() -> None:
    found = _build_cache(100, v=60, w=30)
    assert found.has_room(VersionKey("5-1", "v-1"))
    _load_all(found, VersionKey("5-1", "v-1"))
    assert found.has_room(VersionKey("5-1", "v-1"))
    assert found.has_room(VersionKey("6-1", "w-1"))
    assert not found.has_room(VersionKey("6-1", "v-1"))
    found.close()
    few = ModelCache(lambda _: cast("Any", FakeModel()), 2)
    _load_all(few, VersionKey("5-1", "v-1"), VersionKey("6-1", "v-1"))
    assert not few.has_room(VersionKey("7-1", "v-1"))
    few.close()


@pytest.mark.parametrize(
    ("error", "seconds"), [(CorruptVersion("broken"), 60), (StoreUnreachable("away"), 2)]
)
def test_store_errors_expire_sooner_than_refusals(error: FitloopError, seconds: float) -> None:
    now, tries = [0.0], list[VersionKey]()

    def load(key: VersionKey) -> Model:
        tries.append(key)
        raise error

    found = ModelCache(load, 2, lambda: now[0])
    for moment, expected in ((0.0, 1), (seconds - 0.1, 1), (seconds, 2)):
        now[0] = moment
        with pytest.raises(type(error)):
            _load_all(found, VersionKey("5-1", "v-1"))
        assert len(tries) == expected
    found.close()


def test_loaded_reports_sizes() -> None:
    for budget in (100, math.inf):
        found = _build_cache(budget, v=40, w=60, x=200)
        _load_all(found, VersionKey("5-1", "v-1"), VersionKey("6-1", "w-1"))
        assert {key: size for key, (_, size) in found.loaded().items()} == {
            VersionKey("5-1", "v-1"): 40,
            VersionKey("6-1", "w-1"): 60,
        }
        found.evict(VersionKey("6-1", "w-1"))
        assert list(found.loaded()) == [VersionKey("5-1", "v-1")]
        found.close()
