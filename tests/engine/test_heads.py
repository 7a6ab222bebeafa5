"""Which heads are in memory, and that versions share encoders."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.core.domain import Artefact, EncoderManifest
from services.core.encoders import Encoders
from services.core.errors import CorruptVersion, EngineError, NotFound
from services.core.registry import Registry
from services.core.settings import ServingSettings
from services.core.store.files import FileStore
from services.engine.compute import VersionKey
from services.engine.head import Head, Layer
from services.engine.heads import HeadCache, LoadedHead
from services.engine.inference import LocalInference
from services.engine.loading import EncoderKey, Load, Loader
from tests.support.base_models import TEXTS
from tests.support.encoders import WIDTH, build_tiny_encoder, publish_head
from tests.support.metrics import metric_growth
from tests.support.versions import build_tiny_version, publish_versions

DIGEST = "ab" * 32
SHARED = EncoderKey(DIGEST)


class Reads:
    """Heads to read, and what becomes of their encoders."""

    def __init__(self) -> None:
        self.seen: list[VersionKey] = []
        self.unused: list[EncoderKey] = []
        self.now = 0.0
        self.errors: dict[VersionKey, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()

    def cache(self, budget: float = 1e9) -> HeadCache:
        return HeadCache(self._read, budget, self.unused.append, lambda: self.now)

    def _read(self, key: VersionKey) -> LoadedHead:
        self.seen.append(key)
        assert self.gate.wait(20)
        if key in self.errors:
            raise self.errors[key]
        own = EncoderKey("", *key)
        return LoadedHead(("A", "B"), own if key.version.startswith("whole") else SHARED, Head(), 10)


@pytest.fixture
def reads() -> Reads:
    return Reads()


def names(cache: HeadCache) -> list[str]:
    return [f"{key.project_key}/{key.version}" for key, _ in cache.items()]


def read(cache: HeadCache, *keys: tuple[str, str]) -> None:
    for key in keys:
        cache.request(VersionKey(*key)).result(10)


def test_project_keeps_its_two_newest_versions(reads: Reads) -> None:
    cache = reads.cache()
    read(cache, *(("5-1", f"v-{number}") for number in range(5)), ("6-1", "w-1"))
    assert names(cache) == ["5-1/v-3", "5-1/v-4", "6-1/w-1"]
    assert reads.unused == []


def test_heads_beyond_the_budget_are_dropped(reads: Reads) -> None:
    cache = reads.cache(25)
    read(cache, ("5-1", "v-1"), ("6-1", "v-1"))
    assert cache.get(VersionKey("5-1", "v-1"))
    read(cache, ("7-1", "v-1"))
    assert names(cache) == ["5-1/v-1", "7-1/v-1"]


def test_heads_of_five_hundred_projects_stay(reads: Reads) -> None:
    cache = reads.cache(10_000)
    read(cache, *((f"{number}-1", f"v-{n}") for number in range(500) for n in range(2)))
    assert len(names(cache)) == 1_000
    assert len(set(reads.seen)) == len(reads.seen)


def test_encoder_is_unused_once_its_last_version_is_dropped(reads: Reads) -> None:
    cache = reads.cache()
    read(cache, ("5-1", "v-1"), ("6-1", "v-1"), ("6-1", "whole-1"))
    cache.evict(VersionKey("5-1", "v-1"))
    assert reads.unused == []
    cache.evict(VersionKey("6-1", "whole-1"))
    assert reads.unused == [EncoderKey("", "6-1", "whole-1")]
    cache.evict(VersionKey("6-1", "v-1"))
    cache.evict(VersionKey("6-1", "v-1"))
    assert reads.unused[1:] == [SHARED]


def test_requests_share_one_read(reads: Reads) -> None:
    cache, key = reads.cache(), VersionKey("5-1", "v-1")
    reads.gate.clear()
    futures = [cache.request(key) for _ in range(20)]
    reads.gate.set()
    assert len({id(future.result(10)) for future in futures}) == 1
    assert cache.request(key).result() is cache.get(key)
    assert reads.seen == [key]


def test_refused_head_is_read_again_after_a_minute(reads: Reads) -> None:
    cache, key = reads.cache(), VersionKey("5-1", "v-1")
    reads.errors[key] = CorruptVersion("it is damaged")
    with pytest.raises(CorruptVersion):
        cache.request(key).result(10)
    for _ in range(3):
        with pytest.raises(CorruptVersion, match="it is damaged"):
            cache.request(key)
    assert list(cache.refusals()) == [key]
    del reads.errors[key]
    reads.now = 60.0
    cache.request(key).result(10)
    assert reads.seen == [key] * 2


def test_library_failure_names_the_version(reads: Reads) -> None:
    cache, key = reads.cache(), VersionKey("5-1", "v-1")
    reads.errors[key] = RuntimeError("out of luck")
    with pytest.raises(EngineError, match="v-1 could not be loaded.*out of luck"):
        cache.request(key).result(10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    return build_tiny_version(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EncoderManifest]:
    folder = tmp_path_factory.mktemp("made") / "encoder"
    return folder, replace(build_tiny_encoder(folder), digest=DIGEST)


@pytest.fixture
def registry(tmp_path: Path, made: tuple[Path, Artefact], encoder: tuple[Path, EncoderManifest]) -> Registry:
    """Three projects with a head each on one encoder, v-2 of the first, and a project with a whole model."""
    found = Registry(FileStore(tmp_path / "store"))
    Encoders(found.store).publish(*encoder)
    for number, key in enumerate(("5-1", "6-1", "7-1")):
        publish_head(found, DIGEST, "v-1", key, seed=number)
    publish_head(found, DIGEST, "v-2", "5-1", seed=9)
    publish_versions(found, made, "w-1", key="8-1")
    return found


Build = Callable[..., LocalInference]


@pytest.fixture
def build(registry: Registry) -> Iterator[Build]:
    made: list[LocalInference] = []

    def make(**settings: float) -> LocalInference:
        made.append(LocalInference(registry, ServingSettings(workers=2, **settings)))  # type: ignore[arg-type]  # by name, for tests
        return made[-1]

    yield make
    for inference in made:
        inference.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[EncoderKey]:
    """The encoders whose files were read, one for each load."""
    seen, plan = list[EncoderKey](), Loader.plan

    def counted(loader: Loader, key: EncoderKey) -> Load:
        seen.append(key)
        return plan(loader, key)

    monkeypatch.setattr(Loader, "plan", counted)
    return seen


VERSIONS = [("5-1", "v-1"), ("6-1", "v-1"), ("7-1", "v-1"), ("5-1", "v-2")]


async def test_projects_and_versions_share_one_encoder(
    build: Build, registry: Registry, loads: list[EncoderKey]
) -> None:
    inference = build(loaded_models=1)
    answers = await asyncio.gather(*(inference.scores(*version, TEXTS) for version in VERSIONS))
    assert loads == [SHARED]
    assert len(inference._encoders.loaded()) == 1
    for version, answer in zip(VERSIONS, answers, strict=True):
        alone = Loader(registry).model(registry.manifest(*version))
        np.testing.assert_allclose(answer.probabilities, alone.scores_of(TEXTS).probabilities, atol=1e-4)
        alone.close()
    assert sorted(inference.loaded()) == sorted(VersionKey(*version) for version in VERSIONS)


async def test_text_asked_again_is_not_computed_again(build: Build) -> None:
    inference, computed = build(), metric_growth("fitloop_engine_texts_total")
    inference.prepare("5-1", "v-1")
    before = computed()
    first = await inference.scores("5-1", "v-1", TEXTS)
    assert computed() - before == len(TEXTS)
    again = await inference.scores("5-1", "v-1", [*TEXTS[:3], "a new one"])
    other = await inference.scores("6-1", "v-1", TEXTS)
    assert computed() - before == len(TEXTS) + 1, "also for another project"
    np.testing.assert_allclose(again.probabilities[:3], first.probabilities[:3], atol=1e-6)
    assert not np.allclose(first.probabilities, other.probabilities), "each by its own head"


async def test_whole_model_is_an_encoder_of_its_own(build: Build, loads: list[EncoderKey]) -> None:
    inference = build()
    await asyncio.gather(inference.scores("5-1", "v-1", TEXTS), inference.scores("8-1", "w-1", TEXTS))
    assert sorted(loads) == [EncoderKey("", "8-1", "w-1"), SHARED]
    inference.evict("8-1", "w-1")
    assert list(inference._encoders.loaded()) == [SHARED]
    assert inference.loaded() == [("5-1", "v-1")]


def test_new_version_reads_its_head_alone(build: Build, registry: Registry, loads: list[EncoderKey]) -> None:
    inference = build()
    inference.prepare("5-1", "v-1")
    for name in ("config.json", "ct2/model.bin", "manifest.json"):
        registry.store.delete(f"encoders/{DIGEST}/{name}")
    inference.prepare("5-1", "v-2")
    assert loads == [SHARED]
    assert len(inference.loaded()) == 2


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "without manifest"])
async def test_damaged_encoder_is_refused_by_name(
    build: Build, registry: Registry, loads: list[EncoderKey], damage: str
) -> None:
    key = f"encoders/{DIGEST}/ct2/model.bin"
    whole = registry.store.read(key)
    if damage == "without manifest":
        registry.store.delete(f"encoders/{DIGEST}/manifest.json")
    elif damage == "missing":
        registry.store.delete(key)
    else:
        registry.store.write(key, whole[:-1] + bytes([whole[-1] ^ 1])[: damage == "flipped"])
    inference = build()
    for version in VERSIONS:
        with pytest.raises(CorruptVersion, match="encoder abababababab"):
            await inference.scores(*version, TEXTS)
        with pytest.raises(CorruptVersion, match="encoder abababababab"):
            await asyncio.to_thread(inference.prepare, *version)
    assert loads == [SHARED], "500 projects do not read it 500 times"
    assert set(inference.refusals()) == set(inference._heads._heads)
    assert (await inference.scores("8-1", "w-1", TEXTS)).probabilities.shape == (len(TEXTS), 2)


@pytest.mark.parametrize("damage", ["flipped", "missing", "not finite", "too wide"])
async def test_damaged_head_concerns_its_version_alone(build: Build, registry: Registry, damage: str) -> None:
    path = "projects/5-1/versions/v-2/head.safetensors"
    if damage == "flipped":
        whole = registry.store.read(path)
        registry.store.write(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "missing":
        registry.store.delete(path)
    else:
        registry.delete("5-1", "v-2")
        weight = np.ones((2, WIDTH + (damage == "too wide")), np.float32)
        bias = np.full(2, np.nan if damage == "not finite" else 0, np.float32)
        publish_head(registry, DIGEST, "v-2", "5-1", layers=(Layer(weight, bias),))
    inference = build()
    for _ in range(2):
        with pytest.raises((CorruptVersion, EngineError)):
            await asyncio.to_thread(inference.prepare, "5-1", "v-2")
        with pytest.raises((CorruptVersion, EngineError)):
            await inference.scores("5-1", "v-2", TEXTS)
    assert list(inference.refusals()) == [("5-1", "v-2")]
    assert (await inference.scores("5-1", "v-1", TEXTS)).probabilities.shape == (len(TEXTS), 2)


async def test_unknown_version_of_a_head_is_not_found(build: Build) -> None:
    with pytest.raises(NotFound):
        await build().scores("5-1", "v-9", TEXTS)
