"""Models in memory: loaded once, checked, evicted by age of use, and never closed under a request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.domain import Artefact, Manifest
from services.core.errors import CorruptVersion, EngineError, NotFound, Overloaded
from services.core.registry import Registry
from services.core.settings import ServingSettings, Settings
from services.core.store.files import FileStore
from services.engine import torch as torch_engine
from services.engine.inference import LocalInference
from services.engine.loading import EncoderKey, Load, Loader, is_read, text_encoder_of
from services.trainer.data.base_model import load_base
from services.trainer.methods import Head
from tests.support.base_models import TEXTS, build_tiny_base
from tests.support.manifests import build_manifest
from tests.support.metrics import metric_growth
from tests.support.waiting import eventually
from tests.support.whole_models import write_whole_probe

KEY = "5-1"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    """A version's folder with an int8 engine, as the trainer writes it."""
    folder = tmp_path_factory.mktemp("version")
    base = load_base(str(build_tiny_base(tmp_path_factory.mktemp("base"))), 32)
    weight: NDArray[np.float32] = np.random.default_rng(0).normal(0, 1, (2, 32)).astype(np.float32)
    write_whole_probe(folder, base, Head(weight, np.zeros(2, np.float32)), ("A", "B"))
    (folder / "oos.json").write_text("{}")
    return folder, Artefact("sentence-transformers", "ct2-int8", "", 32, 1.0)


@pytest.fixture
def registry(tmp_path: Path, exported: tuple[Path, Artefact]) -> Registry:
    """Versions v-1, v-2, v-3."""
    found = Registry(FileStore(tmp_path))
    for version in ("v-1", "v-2", "v-3"):
        found.publish(exported[0], replace(build_manifest(version, KEY), artefact=exported[1]))
    return found


@pytest.fixture
def inference(registry: Registry) -> Iterator[LocalInference]:
    found = LocalInference(registry, ServingSettings(workers=2, threads=1, loaded_models=2, queue_texts=50))
    yield found
    found.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Manifest]:
    """The manifests whose files were read, one for each load."""
    seen: list[Manifest] = []
    original = Loader._whole_model

    def counted(self: Loader, found: Manifest) -> Path:
        seen.append(found)
        return original(self, found)

    monkeypatch.setattr(Loader, "_whole_model", counted)
    return seen


def weights(registry: Registry, version: str, name: str) -> Path:
    return registry.store.local(f"projects/{KEY}/versions/{version}/{name}")


@pytest.mark.parametrize(("workers", "threads"), [(1, 2), (3, 1)])
def test_settings_reach_scheduler_and_engine(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int
) -> None:
    original, given = ctranslate2.Encoder, []

    def recording(*arguments: Any, **options: Any) -> Any:
        given.append((options["inter_threads"], options["intra_threads"]))
        return original(*arguments, **options)

    monkeypatch.setattr(ctranslate2, "Encoder", recording)
    monkeypatch.setenv("WORKERS", str(workers))
    monkeypatch.setenv("THREADS", str(threads))
    found = LocalInference(registry, Settings.load().serving)
    try:
        found.prepare(KEY, "v-1")
        alive = [thread for thread in threading.enumerate() if thread.name.startswith("fitloop-stream-")]
        assert (len(alive), set(given)) == (workers, {(workers, threads)}), (
            "twice where int8 is compared with fp32"
        )
    finally:
        found.close()


def engine_kind(inference: LocalInference, version: str) -> str | None:
    """Return the engine kind of a loaded version; None for another."""
    weights = inference._encoders.get(EncoderKey("", KEY, version))
    return text_encoder_of(weights).engine.kind if weights else None


async def test_answers_in_order_from_the_named_version(inference: LocalInference) -> None:
    together = await inference.scores(KEY, "v-1", TEXTS)
    alone = [await inference.scores(KEY, "v-1", [text]) for text in TEXTS]
    assert together.labels == ("A", "B")
    assert together.probabilities.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(
        together.probabilities, np.concatenate([scores.probabilities for scores in alone]), atol=1e-4
    )
    assert len(set(together.probabilities[:, 0].round(3).tolist())) > 1


async def test_a_few_texts_need_no_other_thread_if_a_stream_is_idle(inference: LocalInference) -> None:
    await asyncio.to_thread(inference.prepare, KEY, "v-1")
    eventually(lambda: inference._scheduler.idle == 2)
    inference._tokenising.shutdown()
    computed = await inference.scores(KEY, "v-1", TEXTS[:1])
    remembered = await inference.scores(KEY, "v-1", TEXTS[:1])
    assert np.array_equal(computed.probabilities, remembered.probabilities)
    with pytest.raises(RuntimeError, match="after shutdown"):
        await inference.scores(KEY, "v-1", ["a text"] * 5)


async def test_concurrent_requests_share_one_load(inference: LocalInference, loads: list[Manifest]) -> None:
    await asyncio.gather(*(inference.scores(KEY, "v-1", ["text"]) for _ in range(20)))
    assert len(loads) == 1


async def test_event_loop_is_free_during_a_load(
    inference: LocalInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()
    original = Loader._whole_model

    def slow(self: Loader, found: Manifest) -> Path:
        assert may_load.wait(20)
        return original(self, found)

    monkeypatch.setattr(Loader, "_whole_model", slow)
    asked = asyncio.create_task(inference.scores(KEY, "v-1", ["text"]))
    await asyncio.sleep(0)
    assert engine_kind(inference, "v-1") is None
    may_load.set()
    assert (await asked).probabilities.shape == (1, 2)


async def test_prepare_loads_the_version(inference: LocalInference, loads: list[Manifest]) -> None:
    assert engine_kind(inference, "v-1") is None
    await asyncio.to_thread(inference.prepare, KEY, "v-1")
    assert engine_kind(inference, "v-1") == "ct2-int8"
    await inference.scores(KEY, "v-1", ["text"])
    assert len(loads) == 1


async def test_int8_version_serves_without_fp32_weights(
    inference: LocalInference, registry: Registry
) -> None:
    weights(registry, "v-1", "model.safetensors").unlink()
    assert (await inference.scores(KEY, "v-1", ["text"])).probabilities.shape == (1, 2)


def test_files_read_by_each_engine() -> None:
    assert not is_read("model.safetensors", "ct2-int8")
    assert is_read("model.safetensors", "torch-fp32")
    assert is_read("ct2/model.bin", "ct2-int8")
    assert is_read("3_Dense/model.safetensors", "ct2-int8")
    assert is_read("tokenizer.json", "ct2-int8")
    assert not is_read("report.json", "torch-fp32")
    assert is_read("model.safetensors", "torch-bf16")
    assert not is_read("ct2/model.bin", "torch-bf16")


async def test_fp32_version_is_served(
    inference: LocalInference, registry: Registry, exported: tuple[Path, Artefact]
) -> None:
    known = registry.manifest(KEY, "v-1")
    registry.publish(
        exported[0], replace(known, version="t-1", artefact=replace(known.artefact, engine="torch-fp32"))
    )
    fp32 = await inference.scores(KEY, "t-1", TEXTS)
    int8 = await inference.scores(KEY, "v-1", TEXTS)
    assert engine_kind(inference, "t-1") == "torch-fp32"
    np.testing.assert_allclose(fp32.probabilities, int8.probabilities, atol=0.1)


async def test_broken_version_is_refused_for_a_minute(
    inference: LocalInference, registry: Registry, loads: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await inference.scores(KEY, "v-1", ["text"])
    broken = weights(registry, "v-2", "ct2/model.bin")
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-1] + b"?")
    for _ in range(3):
        with pytest.raises(CorruptVersion, match=r"ct2/model\.bin.*differs from its manifest"):
            await inference.scores(KEY, "v-2", ["text"])
    assert len(loads) == 2
    with pytest.raises(CorruptVersion):
        await asyncio.to_thread(inference.prepare, KEY, "v-2")
    assert len(loads) == 3
    broken.write_bytes(whole)
    with pytest.raises(CorruptVersion):
        await inference.scores(KEY, "v-2", ["text"])
    now = time.monotonic()
    monkeypatch.setattr(inference._encoders._refusals, "_clock", lambda: now + 61)
    assert (await inference.scores(KEY, "v-2", ["text"])).probabilities.shape == (1, 2)
    again = await inference.scores(KEY, "v-1", ["text"])
    np.testing.assert_array_equal(again.probabilities, good.probabilities)


async def test_missing_version_is_not_found(inference: LocalInference) -> None:
    with pytest.raises(NotFound):
        await inference.scores(KEY, "v-9", ["text"])


async def test_library_failure_reaches_the_caller(
    inference: LocalInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Loader, "_whole_model", fail)
    with pytest.raises(EngineError, match="v-1 could not be loaded.*out of luck"):
        await inference.scores(KEY, "v-1", ["text"])


async def test_least_recently_used_version_is_evicted(
    inference: LocalInference, loads: list[Manifest]
) -> None:
    for version in ("v-1", "v-2", "v-1", "v-3"):
        await inference.scores(KEY, version, ["text"])
    loaded = {version: engine_kind(inference, version) for version in ("v-1", "v-2", "v-3")}
    assert loaded == {"v-1": "ct2-int8", "v-2": None, "v-3": "ct2-int8"}
    await inference.scores(KEY, "v-2", ["text"])
    assert [found.version for found in loads] == ["v-1", "v-2", "v-3", "v-2"]


async def test_cancelled_request_releases_its_model(inference: LocalInference) -> None:
    for _ in range(5):
        asked = asyncio.create_task(inference.scores(KEY, "v-1", TEXTS))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    await inference.scores(KEY, "v-1", ["text"])
    loaded = inference._encoders._entries[EncoderKey("", KEY, "v-1")]
    await asyncio.to_thread(eventually, lambda: loaded.uses == 0)


async def test_full_queue_is_overloaded_then_recovers(inference: LocalInference) -> None:
    many = [TEXTS[number % 10] for number in range(50)]
    answers = await asyncio.gather(
        *(inference.scores(KEY, "v-1", many) for _ in range(40)), return_exceptions=True
    )
    assert {type(answer).__name__ for answer in answers} <= {"Scores", Overloaded.__name__}
    assert (await inference.scores(KEY, "v-1", ["text"])).probabilities.shape == (1, 2)


async def test_no_texts_get_no_rows(inference: LocalInference) -> None:
    assert (await inference.scores(KEY, "v-1", [])).probabilities.shape == (0, 2)


async def test_close_frees_all_models(registry: Registry) -> None:
    inference = LocalInference(registry, ServingSettings(workers=1))
    await inference.scores(KEY, "v-1", ["text"])
    inference.close()
    assert engine_kind(inference, "v-1") is None


def outcomes() -> Callable[[], dict[str, float]]:
    """Return a function that counts lookups by outcome from now on."""
    found = {
        kind: metric_growth("fitloop_engine_version_requests_total", outcome=kind)
        for kind in ("hit", "load", "refused")
    }
    return lambda: {kind: grown() for kind, grown in found.items() if grown()}


async def test_lookups_are_counted_by_outcome(inference: LocalInference, registry: Registry) -> None:
    seen = outcomes()
    await asyncio.gather(*(inference.scores(KEY, "v-1", ["text"]) for _ in range(3)))
    assert seen() == {"load": 3}, "who waits for another's load waits as well"
    await inference.scores(KEY, "v-1", ["text"])
    await asyncio.to_thread(inference.prepare, KEY, "v-2")
    assert seen() == {"load": 3, "hit": 1}, "preparing is no request"
    weights(registry, "v-3", "ct2/model.bin").unlink()
    for _ in range(2):
        with pytest.raises(CorruptVersion):
            await inference.scores(KEY, "v-3", ["text"])
    assert seen() == {"load": 3, "hit": 1, "refused": 2}, "by its load, and by what is remembered of that"


async def test_no_memory_is_counted_as_rejected(registry: Registry, exported: tuple[Path, Artefact]) -> None:
    known = registry.manifest(KEY, "v-1")
    size = Loader(registry).whole_model_bytes(known)
    found = LocalInference(registry, ServingSettings(workers=1, memory_mb=1.5 * size / 1e6))
    rejected = metric_growth("fitloop_engine_rejected_total", reason="memory")
    try:
        loaded = found._encoders.acquire(EncoderKey("", KEY, "v-1"))
        await asyncio.wrap_future(loaded.future)
        with pytest.raises(Overloaded, match="no memory"):
            await found.scores(KEY, "v-2", ["text"])
        loaded.release()
    finally:
        found.close()
    assert rejected() == 1


async def test_loaded_versions_are_exported_until_closed(registry: Registry) -> None:
    versions, held_bytes = (
        metric_growth("fitloop_engine_versions", engine="ct2-int8"),
        metric_growth("fitloop_engine_held_bytes"),
    )
    limit = metric_growth("fitloop_engine_queue_limit_texts")
    inference = LocalInference(registry, ServingSettings(workers=1, queue_texts=77))
    await inference.scores(KEY, "v-1", ["text"])
    manifest = registry.manifest(KEY, "v-1")
    assert (versions(), limit()) == (1, 77)
    files = sum(entry.size for name, entry in manifest.files.items() if is_read(name, "ct2-int8"))
    assert held_bytes() == files + 19 * manifest.files["tokenizer.json"].size
    assert inference.state().gpu_memory_bytes is None
    inference.close()
    assert (versions(), limit(), held_bytes()) == (0, 0, 0)


async def test_gpu_memory_is_known_after_a_load(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a GPU: the version is computed on the CPU."""

    def on_cpu(loader: Loader, key: EncoderKey) -> Load:
        return plan(replace(loader, device="cpu"), key)

    plan = Loader.plan
    monkeypatch.setattr(Loader, "plan", on_cpu)
    assert torch_engine.gpu_memory() >= 0
    monkeypatch.setattr(torch_engine, "gpu_memory", lambda: 123)
    inference = LocalInference(registry, ServingSettings(workers=1, device="cuda"))
    try:
        assert inference.state().gpu_memory_bytes is None
        await inference.scores(KEY, "v-1", ["text"])
        assert inference.state().gpu_memory_bytes == 123
    finally:
        inference.close()
