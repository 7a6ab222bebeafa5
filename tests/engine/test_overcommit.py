"""More active encoders than fit: each load serves who waits for it, nobody's load is done, and who is in memory is answered."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from services.core.errors import Overloaded
from services.engine.cache import EncoderCache
from services.engine.loading import EncoderKey, Load, Weights

LIMIT = 8
ROUNDS = 12


class Machine:
    """Encoders in memory and in use, each load held up until `step`."""

    def __init__(self) -> None:
        self.cache = EncoderCache(lambda key: Load(1, lambda: self._read(key)), limit=LIMIT)
        self.in_memory: Counter[EncoderKey] = Counter()
        self.in_use: Counter[EncoderKey] = Counter()
        self.loads: list[EncoderKey] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.problems: list[str] = []

    def _read(self, key: EncoderKey) -> Weights:
        self.begun.release()
        assert self.may_end.acquire(timeout=20)
        if self.in_memory[key]:
            self.problems.append(f"{key} is in memory twice")
        if sum(self.in_memory.values()) >= LIMIT:
            self.problems.append(f"{key} is one too many")
        self.loads.append(key)
        self.in_memory[key] += 1
        return cast("Weights", Closing(self, key))

    async def ask(self, key: EncoderKey) -> str:
        """Be a request that waits for its encoder and computes a moment with it."""
        try:
            entry = self.cache.acquire(key, key.project_key)
        except Overloaded:
            return "overloaded"
        try:
            await asyncio.shield(asyncio.wrap_future(entry.future))
            self.in_use[key] += 1
            await asyncio.sleep(0)
            self.in_use[key] -= 1
        except Overloaded:
            return "overloaded"
        else:
            return "answered"
        finally:
            entry.release()


class Closing:
    """An encoder that must not be closed while it is used."""

    engine = SimpleNamespace(kind="ct2-int8")

    def __init__(self, machine: Machine, key: EncoderKey) -> None:
        self._machine, self._key = machine, key

    def close(self) -> None:
        self._machine.in_memory[self._key] -= 1
        if self._machine.in_use[self._key]:
            self._machine.problems.append(f"{self._key} was closed in use")


@pytest.fixture
def machine() -> Iterator[Machine]:
    found = Machine()
    yield found
    found.may_end.release(10_000)
    found.cache.close()
    assert found.problems == []


def whole_models(count: int) -> list[EncoderKey]:
    return [EncoderKey("", f"{number}-1", "v-1") for number in range(count)]


async def all_ended(machine: Machine, asked: list[asyncio.Task[str]]) -> Counter[str]:
    machine.may_end.release(10_000)
    return Counter(await asyncio.gather(*asked))


@pytest.mark.parametrize("projects", [LIMIT, 12, 40])
async def test_no_load_is_for_nobody(machine: Machine, projects: int) -> None:
    """While one loads, requests for all the others queue up, and all give up but those of one project."""
    keys = whole_models(projects)
    first = asyncio.create_task(machine.ask(keys[0]))
    await asyncio.to_thread(machine.begun.acquire)
    asked = {key: [asyncio.create_task(machine.ask(key)) for _ in range(3)] for key in keys[1:]}
    await asyncio.sleep(0)
    for key in keys[2:]:
        for task in asked[key]:
            task.cancel()
        await asyncio.gather(*asked[key], return_exceptions=True)
    assert await all_ended(machine, [first, *asked[keys[1]]]) == {"answered": 4}
    assert machine.loads == keys[:2]


@pytest.mark.parametrize("projects", [12, 40])
async def test_who_is_in_memory_is_answered_during_loads(machine: Machine, projects: int) -> None:
    keys = whole_models(projects)
    machine.may_end.release(LIMIT)
    for key in keys[:LIMIT]:
        assert await machine.ask(key) == "answered"
        machine.begun.acquire()
    waiting = [asyncio.create_task(machine.ask(key)) for key in keys[LIMIT:]]
    await asyncio.to_thread(machine.begun.acquire)
    in_memory = [key for key in keys if machine.in_memory[key]]
    assert len(in_memory) == LIMIT - 1, "one made room for what is being loaded"
    for _ in range(ROUNDS):
        assert [await machine.ask(key) for key in in_memory] == ["answered"] * len(in_memory)
    answers = await all_ended(machine, waiting)
    assert answers["answered"] >= min(LIMIT, projects - LIMIT)
    assert answers["answered"] + answers["overloaded"] == len(waiting)


@pytest.mark.parametrize("projects", [LIMIT, 12, 40])
async def test_all_projects_get_their_turn(machine: Machine, projects: int) -> None:
    """Each client asks again when it is told to, as Retry-After says: nobody starves, and each load serves somebody."""
    machine.may_end.release(10_000)
    keys, answered = whole_models(projects), Counter[EncoderKey]()

    async def client(key: EncoderKey) -> None:
        while answered[key] < ROUNDS:
            if await machine.ask(key) == "answered":
                answered[key] += 1
            await asyncio.sleep(0.001)

    await asyncio.wait_for(asyncio.gather(*map(client, keys)), 60)
    assert set(answered.values()) == {ROUNDS}
    assert len(machine.loads) <= projects * ROUNDS
    if projects == LIMIT:
        assert len(machine.loads) == LIMIT, "each once"


async def test_forty_projects_share_one_encoder(machine: Machine) -> None:
    """Forty projects' encoder is one of those that fit: it is loaded once, beside the others."""
    machine.may_end.release(10_000)
    shared, whole = EncoderKey("ab" * 32), whole_models(LIMIT - 1)
    asked = [machine.ask(key) for key in (*(shared,) * 40, *whole)]
    assert Counter(await asyncio.gather(*asked)) == {"answered": 40 + LIMIT - 1}
    for _ in range(ROUNDS):
        await asyncio.gather(*(machine.ask(key) for key in (*whole[:2], *(shared,) * 40)))
    assert Counter(machine.loads)[shared] == 1
