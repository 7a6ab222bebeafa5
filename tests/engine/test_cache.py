"""Which encoders the cache keeps, loads, evicts and refuses."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import CorruptVersion, EngineError, FitloopError, Overloaded, StoreUnreachable
from services.engine.activity import WINDOW_SECONDS, Activity
from services.engine.cache import CachedEncoder, EncoderCache, NoRoom
from services.engine.load_queue import MAX_QUEUED
from services.engine.loading import EncoderKey, Load, Weights
from tests.support.metrics import metric_growth
from tests.support.waiting import eventually


class FakeEncoder:
    """An encoder that can only be closed."""

    engine = SimpleNamespace(kind="ct2-int8")

    def __init__(self, key: EncoderKey) -> None:
        self.key = key
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Encoders:
    """Loads of fake encoders: counted, of a chosen size, and held up until `gate` is set."""

    def __init__(self) -> None:
        self.sizes: dict[EncoderKey, int] = {}
        self.errors: dict[EncoderKey, Exception] = {}
        self.loads: list[EncoderKey] = []
        self.made: list[FakeEncoder] = []
        self.gate = threading.Event()
        self.gate.set()
        self.caches: list[EncoderCache] = []

    def cache(self, budget: float = math.inf, limit: int = 0) -> EncoderCache:
        self.caches.append(EncoderCache(self._plan, budget, limit))
        return self.caches[-1]

    def _plan(self, key: EncoderKey) -> Load:
        return Load(self.sizes.get(key, 1), lambda: self._read(key))

    def _read(self, key: EncoderKey) -> Weights:
        self.loads.append(key)
        assert self.gate.wait(20)
        if key in self.errors:
            raise self.errors[key]
        self.made.append(FakeEncoder(key))
        return cast("Weights", self.made[-1])


@pytest.fixture
def encoders() -> Iterator[Encoders]:
    found = Encoders()
    yield found
    found.gate.set()
    for cache in found.caches:
        cache.close()


def encoder(number: int) -> EncoderKey:
    return EncoderKey(f"{number:064x}")


def use(cache: EncoderCache, *keys: EncoderKey) -> list[EncoderKey]:
    """Use these encoders one after the other; return what is loaded then."""
    for key in keys:
        entry = cache.acquire(key)
        try:
            entry.future.result(10)
        finally:
            entry.release()
    return list(cache.loaded())


def closed(encoders: Encoders) -> list[EncoderKey]:
    return [made.key for made in encoders.made if made.closed]


def hold(cache: EncoderCache, *keys: EncoderKey) -> list[CachedEncoder]:
    entries = [cache.acquire(key, str(key)) for key in keys]
    for entry in entries:
        entry.future.result(10)
    return entries


def test_names_of_encoders_and_whole_models() -> None:
    assert str(encoder(255)) == "encoder 000000000000"
    assert str(EncoderKey("", "5-1", "v-1")) == "version v-1"
    assert EncoderKey("ab" * 32).log_ids() == {"encoder": "abababababab"}
    assert EncoderKey("", "5-1", "v-1").log_ids() == {"project": 5, "version": "v-1"}


@pytest.mark.parametrize("bounds", [{"limit": 3}, {"budget": 3.0}])
def test_least_recently_used_are_evicted(encoders: Encoders, bounds: dict[str, Any]) -> None:
    keys = [encoder(number) for number in range(4)]
    assert use(encoders.cache(**bounds), *keys[:3], keys[0], keys[3]) == [keys[2], keys[0], keys[3]]
    assert closed(encoders) == [keys[1]]


def test_sizes_count_against_the_budget(encoders: Encoders) -> None:
    encoders.sizes = {encoder(1): 40, encoder(2): 60, encoder(3): 60}
    cache = encoders.cache(100.0)
    assert use(cache, encoder(1), encoder(2)) == [encoder(1), encoder(2)]
    assert use(cache, encoder(1), encoder(3)) == [encoder(1), encoder(3)]
    assert {key: size for key, (_, size) in cache.loaded().items()} == {encoder(1): 40, encoder(3): 60}


def test_encoders_in_use_are_not_evicted(encoders: Encoders) -> None:
    cache = encoders.cache(limit=2)
    first, second = hold(cache, encoder(1), encoder(2))
    with pytest.raises(Overloaded, match="no memory for encoder 000000000000 beside those in use"):
        use(cache, encoder(3))
    assert cache.refusals() == {}, "that says nothing of the encoder"
    second.release()
    assert use(cache, encoder(3)) == [encoder(1), encoder(3)]
    first.release()


def test_oversized_encoder_is_refused_without_eviction(encoders: Encoders) -> None:
    encoders.sizes = {encoder(2): 101}
    cache = encoders.cache(100.0)
    use(cache, encoder(1))
    with pytest.raises(EngineError, match="FITLOOP_MODEL_MEMORY_MB"):
        use(cache, encoder(2))
    assert list(cache.loaded()) == [encoder(1)]
    assert list(cache.refusals()) == [encoder(2)]


def test_no_room_unless_somebody_may_evict(encoders: Encoders) -> None:
    cache = encoders.cache(limit=1)
    use(cache, encoder(1))
    with pytest.raises(NoRoom, match="no room for encoder"):
        cache.acquire(encoder(2), may_evict=False).future.result(10)
    assert list(cache.loaded()) == [encoder(1)]
    assert use(cache, encoder(2)) == [encoder(2)]


def test_all_requests_share_one_load(encoders: Encoders) -> None:
    cache = encoders.cache()
    encoders.gate.clear()
    entries = [cache.acquire(encoder(1), str(number)) for number in range(20)]
    encoders.gate.set()
    assert len({id(entry.future.result(10)) for entry in entries}) == 1
    assert encoders.loads == [encoder(1)]


def test_refusal_is_remembered_once_for_all_versions(encoders: Encoders) -> None:
    cache = encoders.cache()
    encoders.errors[encoder(1)] = CorruptVersion("it is damaged")
    for _ in range(500):
        with pytest.raises(CorruptVersion, match="it is damaged"):
            use(cache, encoder(1))
    assert encoders.loads == [encoder(1)]
    del encoders.errors[encoder(1)]
    entry = cache.acquire(encoder(1), retry=True)
    entry.future.result(10)
    entry.release()
    assert encoders.loads == [encoder(1)] * 2


def test_library_failure_names_the_encoder(encoders: Encoders) -> None:
    encoders.errors[encoder(1)] = RuntimeError("out of luck")
    with pytest.raises(EngineError, match="encoder 000000000000 could not be loaded.*out of luck"):
        use(encoders.cache(), encoder(1))


def test_load_that_nobody_waits_for_is_dropped(encoders: Encoders) -> None:
    cache = encoders.cache()
    encoders.gate.clear()
    current = cache.acquire(encoder(1))
    eventually(lambda: encoders.loads == [encoder(1)])
    for _ in range(3):
        given_up, waits = cache.acquire(encoder(2), "5-1"), cache.acquire(encoder(3), "6-1")
        given_up.release()
        waits.release()
    waits = cache.acquire(encoder(3), "6-1")
    encoders.gate.set()
    for entry in (current, waits):
        entry.future.result(10)
        entry.release()
    assert encoders.loads == [encoder(1), encoder(3)]


def test_queue_of_loads_is_bounded(encoders: Encoders) -> None:
    cache = encoders.cache()
    encoders.gate.clear()
    current = cache.acquire(encoder(0))
    eventually(lambda: bool(encoders.loads))
    queued = [cache.acquire(encoder(number), f"{number}-1") for number in range(1, MAX_QUEUED + 1)]
    with pytest.raises(Overloaded, match="8 loads are queued before encoder"):
        cache.acquire(encoder(99), "99-1")
    joined = cache.acquire(encoder(1), "99-1")
    ahead = cache.acquire(encoder(98), "98-1", ahead=True)
    encoders.gate.set()
    for entry in (current, *queued, joined, ahead):
        entry.future.result(10)
        entry.release()


def test_project_has_two_loads_in_the_queue_at_most(encoders: Encoders) -> None:
    cache = encoders.cache()
    encoders.gate.clear()
    entries = [cache.acquire(encoder(0), "5-1")]
    eventually(lambda: bool(encoders.loads))
    entries += [cache.acquire(encoder(number), "5-1") for number in (1, 2)]
    with pytest.raises(Overloaded):
        cache.acquire(encoder(3), "5-1")
    entries.append(cache.acquire(encoder(3), "6-1"))
    encoders.gate.set()
    for entry in entries:
        entry.future.result(10)
        entry.release()


def test_evicted_encoder_closes_after_its_last_request(encoders: Encoders) -> None:
    cache = encoders.cache(limit=1)
    (entry,) = hold(cache, encoder(1))
    cache.evict(encoder(1))
    assert cache.get(encoder(1)) is None
    with pytest.raises(Overloaded):
        use(cache, encoder(2))
    assert closed(encoders) == [], "its memory counts as long as it is used"
    entry.release()
    assert closed(encoders) == [encoder(1)]
    assert use(cache, encoder(2)) == [encoder(2)]


def test_encoder_evicted_during_its_load_is_closed(encoders: Encoders) -> None:
    cache = encoders.cache()
    encoders.gate.clear()
    entry = cache.acquire(encoder(1))
    eventually(lambda: bool(encoders.loads))
    cache.evict(encoder(1))
    entry.release()
    encoders.gate.set()
    eventually(lambda: bool(encoders.made) and encoders.made[0].closed)
    assert cache.loaded() == {}


def test_close_frees_all(encoders: Encoders) -> None:
    cache = encoders.cache()
    use(cache, encoder(1), encoder(2))
    cache.close()
    assert all(made.closed for made in encoders.made)
    assert cache.loaded() == {}


def test_loads_and_evictions_are_counted(encoders: Encoders) -> None:
    loads = {
        outcome: metric_growth("fitloop_engine_encoder_loads_total", outcome=outcome)
        for outcome in ("loaded", "refused", "failed", "no_memory", "dropped")
    }
    evictions = metric_growth("fitloop_engine_evictions_total")
    encoders.errors = {encoder(8): CorruptVersion("damaged"), encoder(9): StoreUnreachable("away")}
    cache = encoders.cache(limit=1)
    use(cache, encoder(1), encoder(2))
    for number in (8, 9):
        with pytest.raises(FitloopError):
            use(cache, encoder(number))
    use(cache, encoder(3))
    (held,) = hold(cache, encoder(3))
    with pytest.raises(Overloaded):
        use(cache, encoder(1))
    encoders.gate.clear()
    held.release()
    loading = cache.acquire(encoder(1), "5-1")
    eventually(lambda: encoders.loads[-1] == encoder(1))
    cache.acquire(encoder(2), "6-1").release()
    encoders.gate.set()
    loading.future.result(10)
    loading.release()
    grown = {outcome: grown() for outcome, grown in loads.items()}
    assert grown == {"loaded": 4, "refused": 1, "failed": 1, "no_memory": 1, "dropped": 1}
    assert evictions() == 3


def test_active_encoders_are_those_asked_for_lately() -> None:
    now = [0.0]
    activity = Activity(lambda: now[0])
    for number in range(3):
        activity.ask(encoder(number))
        activity.measure(encoder(number), 10)
        now[0] += WINDOW_SECONDS / 2
    assert activity.total() == (1, 10)
    activity.ask(encoder(0))
    assert activity.total() == (2, 10), "the size of one is not known any more"
    now[0] += WINDOW_SECONDS
    assert activity.total() == (0, 0)


_STEPS = st.lists(st.tuples(st.sampled_from(["acquire", "release", "evict"]), st.integers(0, 5)), max_size=60)


@settings(deadline=None, max_examples=50)
@given(steps=_STEPS)
def test_what_is_used_is_in_memory_once(steps: list[tuple[str, int]]) -> None:
    encoders = Encoders()
    cache, held = encoders.cache(limit=3), list[CachedEncoder]()
    try:
        for what, number in steps:
            if what == "evict":
                cache.evict(encoder(number))
            elif what == "release" and held:
                held.pop(number % len(held)).release()
            elif what == "acquire":
                entry = cache.acquire(encoder(number), str(number))
                if entry.future.exception(10):
                    entry.release()
                else:
                    held.append(entry)
            alive = [made for made in encoders.made if not made.closed]
            assert len(alive) <= 3
            assert not [entry for entry in held if cast("Any", entry.future.result()).closed]
            shared = Counter(entry.key for entry in held if not entry.evicted)
            in_memory = Counter(made.key for made in alive)
            assert all(in_memory[key] >= 1 for key in shared)
    finally:
        for entry in held:
            entry.release()
        cache.close()
    assert all(made.closed for made in encoders.made)
