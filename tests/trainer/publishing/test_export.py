from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from services.core.domain import Artefact
from services.core.errors import EngineError
from services.engine.model import load_model
from services.engine.tokenise import encode
from services.engine.torch import pad_batch
from services.trainer.data.base_model import BaseModel, load_base
from services.trainer.methods import Head
from services.trainer.publishing import int8
from services.trainer.publishing.export import write_sentence_transformers, write_sequence_classification
from services.trainer.publishing.int8 import attach_int8, compare
from tests.support.base_models import ARCHITECTURES, TEXTS, build_tiny_base, minilm

LABELS = ("late", "broken", "refund")
ALL_TEXTS = [*TEXTS, "", "order " * 500]
CONVERTIBLE = [name for name in ARCHITECTURES if name != "deberta-v2"]
ST, SC = "sentence-transformers", "sequence-classification"


def _probe(folder: Path, base: BaseModel, scale: float = 3.0) -> Head:
    random = np.random.default_rng(1)
    weight = random.normal(size=(3, base.config.hidden_size)) * scale
    head = Head(weight.astype(np.float32), random.normal(size=3).astype(np.float32))
    write_sentence_transformers(folder, base, base.encoder, head, LABELS)
    return head


def _classifier(folder: Path, base: BaseModel) -> Any:
    torch.manual_seed(2)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base.source, num_labels=3).eval()
    write_sequence_classification(folder, model, base, LABELS)
    return model


def _hidden(model: Any, base: BaseModel) -> Any:
    ids, mask = pad_batch(encode(base.tokenizer, ALL_TEXTS), base.pad_id)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask), mask


def _served(folder: Path, layout: str, engine: str) -> NDArray[np.float32]:
    model = load_model(folder, Artefact(layout, engine, "", 256, 1.0), LABELS, 1, 1)
    return model.logits_of(ALL_TEXTS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exported_probe_answers_the_same(tmp_path: Path, architecture: str) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base", architecture)), 256)
    head = _probe(tmp_path / "model", base)
    output, mask = _hidden(base.encoder, base)
    weights = mask.unsqueeze(-1).float()
    mean = (output.last_hidden_state * weights).sum(1) / weights.sum(1)
    features = torch.nn.functional.normalize(mean).numpy()
    expected = features @ head.weight.T + head.bias
    assert np.abs(_served(tmp_path / "model", ST, "torch-fp32") - expected).max() < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exported_classifier_answers_the_same(tmp_path: Path, architecture: str) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base", architecture)), 256)
    model = _classifier(tmp_path / "model", base)
    output, _ = _hidden(model, base)
    assert np.abs(_served(tmp_path / "model", SC, "torch-fp32") - output.logits.numpy()).max() < 1e-4


@pytest.mark.parametrize("architecture", CONVERTIBLE)
@pytest.mark.parametrize("layout", [ST, SC])
def test_int8_answers_like_fp32(tmp_path: Path, architecture: str, layout: str) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base", architecture)), 256)
    (_probe if layout == ST else _classifier)(tmp_path / "model", base)
    # Random weights at a width of 32 round worse than trained ones at 384: the temperature makes up for it.
    engine, reason = attach_int8(tmp_path / "model", layout, 256, 4.0, TEXTS)
    assert engine == "ct2-int8", reason
    assert reason.startswith("int8 was compared with fp32: on 10 texts ")
    fp32 = _served(tmp_path / "model", layout, "torch-fp32")
    int8_logits = _served(tmp_path / "model", layout, "ct2-int8")
    assert np.corrcoef(fp32.ravel(), int8_logits.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("architecture", CONVERTIBLE)
@pytest.mark.parametrize("layout", [ST, SC])
def test_conversion_without_quantisation_is_exact(
    tmp_path: Path, architecture: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions, token types, layer norms, pooling and the head in numpy are torch's; only rounding is int8's."""
    monkeypatch.setattr(int8, "QUANTIZATION", "float32")
    base = load_base(str(build_tiny_base(tmp_path / "base", architecture)), 256)
    (_probe if layout == ST else _classifier)(tmp_path / "model", base)
    assert attach_int8(tmp_path / "model", layout, 256, 1.0, TEXTS)[0] == "ct2-int8"
    difference = _served(tmp_path / "model", layout, "torch-fp32") - _served(
        tmp_path / "model", layout, "ct2-int8"
    )
    assert np.abs(difference).max() < 1e-3


def test_architectures_without_int8_are_served_in_fp32(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base", "deberta-v2")), 256)
    _probe(tmp_path / "model", base)
    expected = ("torch-fp32", "deberta-v2 has no int8 engine yet: served in fp32.")
    assert attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS) == expected
    assert not (tmp_path / "model" / "ct2").exists()


def test_int8_that_differs_is_refused_and_removed(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    _probe(tmp_path / "model", base)
    contrary = (
        np.tile(np.array([[9, 0, 0]], np.float32), (10, 1))
        - 9 * np.eye(3, dtype=np.float32)[[0] * 5 + [1] * 5]
    )
    engine, reason = attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS, logits=contrary)
    assert engine == "torch-fp32"
    assert reason.startswith("int8 was refused: on 10 texts")
    assert not (tmp_path / "model" / "ct2").exists()


def test_unconvertible_models_are_served_in_fp32(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    base.config.hidden_act = "silly"
    _probe(tmp_path / "model", base)
    with pytest.raises(EngineError, match="transformers cannot load"):
        attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS)
    base.config.hidden_act = "mish"
    _probe(tmp_path / "model", base)
    engine, reason = attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS)
    assert engine == "torch-fp32"
    assert "CTranslate2 cannot convert it" in reason
    assert not (tmp_path / "model" / "ct2").exists()


def test_too_large_vocabularies_are_served_in_fp32(tmp_path: Path) -> None:
    """torch raises for such an id; CTranslate2 would read beyond its table."""
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    base.tokenizer.add_tokens(["zzz"])
    _probe(tmp_path / "model", base)
    engine, reason = attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS)
    assert engine == "torch-fp32"
    assert "more than the" in reason


def test_int8_is_refused_without_texts(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    _probe(tmp_path / "model", base)
    assert attach_int8(tmp_path / "model", ST, 256, 1.0, []) == (
        "torch-fp32",
        "int8 was refused: there was no text to compare it with fp32.",
    )


def _logits(*first: float) -> NDArray[np.float32]:
    """Of two labels, the first of which has these probabilities."""
    return np.log(np.array([[p, 1 - p] for p in first], np.float32))


def test_flips_count_only_above_the_margin() -> None:
    near = compare(_logits(0.52, *[0.9] * 9), _logits(0.48, *[0.9] * 9), 1.0)
    figures = "1 answers differ, 0 of them where fp32 is sure, and their probability by 0.0040 on average."
    assert near == ("", f"int8 was compared with fp32: on 10 texts {figures}")
    sure = compare(_logits(0.56, *[0.9] * 9), _logits(0.48, *[0.9] * 9), 1.0)
    assert sure[0].startswith("on 10 texts 1 answers differ, 1 of them where fp32 is sure")


def test_int8_is_refused_if_probabilities_drift() -> None:
    assert compare(_logits(0.9, 0.9), _logits(0.885, 0.885), 1.0)[0] == ""
    assert "probability by 0.0250" in compare(_logits(0.9, 0.9), _logits(0.875, 0.875), 1.0)[0]


def test_margin_is_of_calibrated_probabilities() -> None:
    fp32, other = _logits(0.6), _logits(0.49)
    assert "1 of them where fp32 is sure" in compare(fp32, other, 1.0)[0]
    assert "0 of them where fp32 is sure" in compare(fp32, other, 10.0)[1]


def test_int8_is_refused_if_not_finite() -> None:
    assert (
        compare(_logits(0.6), _logits(0.6) * np.float32(np.nan), 1.0)[0]
        == "it answers numbers that are not finite."
    )


def test_compared_texts_are_limited_by_tokens() -> None:
    assert len(int8._sample([[1] * 10_000] * 5)) == 2
    assert len(int8._sample([[1] * 100_000])) == 1
    assert int8._sample([]) == []


def test_transformers_loads_the_exported_classifier(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    _classifier(tmp_path / "model", base)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert again.config.id2label == dict(enumerate(LABELS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(TEXTS[0])["input_ids"] == encode(base.tokenizer, [TEXTS[0]])[0]


def test_exported_folder_has_safetensors_and_json_only(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    _probe(tmp_path / "model", base)
    attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS)
    files = {
        str(path.relative_to(tmp_path / "model"))
        for path in (tmp_path / "model").rglob("*")
        if path.is_file()
    }
    assert {name for name in files if not name.endswith((".json", ".safetensors"))} == {"ct2/model.bin"}


@pytest.mark.skipif(minilm() is None, reason="the package with all-MiniLM-L6-v2's weights is not installed")
def test_minilm_is_exported_and_served(tmp_path: Path) -> None:
    base = load_base(str(minilm()), 256)
    _probe(tmp_path / "model", base, scale=1.0)
    engine, reason = attach_int8(tmp_path / "model", ST, 256, 1.0, TEXTS)
    assert engine == "ct2-int8", reason
    assert (
        not hasattr(base.config, "position_embedding_type")
        or base.config.position_embedding_type == "absolute"
    )
    fp32, served = (_served(tmp_path / "model", ST, kind) for kind in ("torch-fp32", "ct2-int8"))
    assert np.corrcoef(fp32.ravel(), served.ravel())[0, 1] > 0.99
