from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from services.core.domain import Artefact
from services.core.errors import EngineError, UnknownFormat
from services.engine.model import Model, load_whole_model
from services.trainer.data.base_model import load_base
from services.trainer.methods import Head
from tests.support.base_models import TEXTS, build_tiny_base
from tests.support.whole_models import write_whole_probe

LABELS = ("a", "b", "c")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear-probe version with both engines."""
    folder = tmp_path_factory.mktemp("version")
    base = load_base(str(build_tiny_base(tmp_path_factory.mktemp("base"))), 32)
    random = np.random.default_rng(0)
    head = Head(random.normal(size=(3, 32)).astype(np.float32), np.zeros(3, np.float32))
    write_whole_probe(folder, base, head, LABELS)
    return folder


def _load(
    folder: Path,
    engine: str,
    *,
    labels: tuple[str, ...] = LABELS,
    layout: str = "sentence-transformers",
    temperature: float = 1.0,
    device: str = "cpu",
) -> Model:
    return load_whole_model(folder, Artefact(layout, engine, "", 32, temperature), labels, 2, 1, device)


@pytest.mark.parametrize("engine", ["ct2-int8", "torch-fp32"])
def test_both_engines_pass_the_smoke_test(version: Path, engine: str) -> None:
    model = _load(version, engine)
    model.smoke_test()
    assert (model.encoder.engine.kind, model.labels, model.encoder.max_length) == (engine, LABELS, 32)
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.logits_of(TEXTS)


@pytest.mark.parametrize(("streams", "threads"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_int8_engine_gets_streams_and_threads(
    version: Path, monkeypatch: pytest.MonkeyPatch, streams: int, threads: int
) -> None:
    original, given = ctranslate2.Encoder, []

    def recording(*arguments: Any, **options: Any) -> Any:
        given.append((options["inter_threads"], options["intra_threads"]))
        encoder = original(*arguments, **options)
        assert encoder.num_encoders == streams
        return encoder

    monkeypatch.setattr(ctranslate2, "Encoder", recording)
    artefact = Artefact("sentence-transformers", "ct2-int8", "", 32, 1.0)
    load_whole_model(version, artefact, LABELS, streams, threads).close()
    assert given == [(streams, threads)]


@pytest.mark.parametrize("threads", [1, 2])
def test_fp32_engine_gets_threads(version: Path, threads: int) -> None:
    before = torch.get_num_threads()
    artefact = Artefact("sentence-transformers", "torch-fp32", "", 32, 1.0)
    try:
        load_whole_model(version, artefact, LABELS, 1, threads).close()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("engine", ["ct2-int8", "torch-fp32"])
def test_answers_do_not_depend_on_the_batch(version: Path, engine: str) -> None:
    model = _load(version, engine)
    together = model.logits_of([*TEXTS, "", "order " * 100])
    alone = np.concatenate([model.logits_of([text]) for text in [*TEXTS, "", "order " * 100]])
    assert np.abs(together - alone).max() < 1e-4


def test_temperature_is_applied_once(version: Path) -> None:
    cold, warm = _load(version, "torch-fp32"), _load(version, "torch-fp32", temperature=2.0)
    logits = cold.logits_of(TEXTS)
    assert np.array_equal(warm.logits_of(TEXTS), logits), "logits are not calibrated"
    powers = np.exp(logits / 2)
    assert np.allclose(
        warm.scores_of(TEXTS).probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("engine", ["ct2-int8", "torch-fp32"])
def test_label_count_mismatch_is_refused(version: Path, engine: str) -> None:
    with pytest.raises(EngineError, match="has 3 outputs, and its manifest names 2 labels"):
        _load(version, engine, labels=("a", "b"))


def test_unknown_engine_or_layout_is_unknown_format(version: Path) -> None:
    with pytest.raises(UnknownFormat, match="engine 'onnx-int8' is unknown"):
        _load(version, "onnx-int8")
    with pytest.raises(UnknownFormat, match="layout 'packed' is unknown"):
        _load(version, "torch-fp32", layout="packed")


@pytest.mark.parametrize("content", [None, b"", b"no model", "half"])
def test_invalid_int8_model_is_an_engine_error(
    version: Path, tmp_path: Path, content: bytes | str | None
) -> None:
    folder = Path(shutil.copytree(version, tmp_path / "broken"))
    path = folder / "ct2" / "model.bin"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:20_000])
    with pytest.raises(EngineError, match="CTranslate2 cannot load"):
        _load(folder, "ct2-int8")


def test_invalid_weights_are_an_engine_error(version: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(version, tmp_path / "broken"))
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(EngineError, match="transformers cannot load"):
        _load(folder, "torch-fp32")


def test_library_error_is_an_engine_error(version: Path) -> None:
    with pytest.raises(EngineError, match="torch could not compute a batch of 1 texts"):
        _load(version, "torch-fp32").encoder.engine.forward([[10_000]])
    with pytest.raises(EngineError, match="CTranslate2 could not compute a batch of 1 texts"):
        _load(version, "ct2-int8").encoder.engine.forward([[1] * 1000])


def test_int8_refuses_a_too_large_vocabulary(version: Path, tmp_path: Path) -> None:
    """CTranslate2 would read beyond its table without an error."""
    folder = Path(shutil.copytree(version, tmp_path / "broken"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["zzz"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(EngineError, match="more than the"):
        _load(folder, "ct2-int8")


def test_non_finite_answers_fail_the_smoke_test(version: Path) -> None:
    model = _load(version, "torch-fp32")
    model.encoder.engine.forward = lambda batch: np.full((len(batch), 32), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="not finite"):
        model.smoke_test()


def test_int8_serving_does_not_import_torch(version: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from services.core.domain import Artefact;"
        "from services.engine.model import load_whole_model; from services.engine.scheduler import Scheduler;"
        f"model = load_whole_model(Path({str(version)!r}), Artefact('sentence-transformers', 'ct2-int8', '', 32, 1.0),"
        "('a', 'b', 'c'), 1, 1); model.smoke_test(); scheduler = Scheduler(1, 10);"
        "scheduler.submit(model, ['my order']).result(10); scheduler.close();"
        "print({'torch', 'transformers'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (
        done.stdout.splitlines()[-1] == "set()"
    )  # where int8 is compared with fp32, a log line comes before


@pytest.mark.parametrize("engine", ["ct2-int8", "torch-fp32"])
def test_gpu_computes_in_bf16_from_fp32_weights(
    version: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp32 = _load(version, "torch-fp32").logits_of(TEXTS)
    monkeypatch.setattr("services.engine.torch.find_device", lambda _: torch.device("cpu"))
    model = _load(version, engine, device="cuda")
    assert model.encoder.engine.kind == "torch-bf16"
    model.smoke_test()
    found = model.logits_of(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fp32, atol=0.05 * float(np.abs(fp32).max()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_an_engine_error(version: Path) -> None:
    with pytest.raises(EngineError, match="FITLOOP_DEVICE is cuda, but this process finds no GPU"):
        _load(version, "ct2-int8", device="cuda")
