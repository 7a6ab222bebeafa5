"""When int8 is accepted, and what is converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import ElectraConfig, ElectraModel

from services.core.errors import EngineError
from services.engine.compute import compute
from services.engine.tokenise import encode
from services.engine.torch import TorchEngine
from services.trainer.data.base_model import load_base
from services.trainer.publishing import int8
from services.trainer.publishing.int8 import KINDS, compare, convert, open_int8, sample_of
from tests.support.base_models import TEXTS, build_tiny_base


@pytest.mark.parametrize("architecture", KINDS)
def test_conversion_without_quantisation_is_exact(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions, token types and layer norms are torch's; only rounding is int8's."""
    monkeypatch.setattr(int8, "QUANTIZATION", "float32")
    base = load_base(str(build_tiny_base(tmp_path / "base", architecture)), 256)
    convert(base.encoder, architecture, tmp_path / "ct2")
    ids = encode(base.tokenizer, [*TEXTS, "", "order " * 500])
    found = compute(open_int8(tmp_path / "ct2", architecture, base.pooler, base.width, base.pad_id), ids)
    expected = compute(TorchEngine(base.source, base.pooler, base.width, base.pad_id), ids)
    assert np.abs(found - expected).max() < 1e-4


def test_unknown_activation_is_refused(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base")), 256)
    base.config.hidden_act = "mish"
    with pytest.raises(EngineError, match="CTranslate2 cannot convert it"):
        convert(base.encoder, "bert", tmp_path / "ct2")


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="albert has no int8 engine yet"):
        convert(None, "albert", tmp_path / "ct2")


def test_projected_embeddings_are_refused(tmp_path: Path) -> None:
    config = ElectraConfig(
        vocab_size=20, embedding_size=16, hidden_size=32, num_attention_heads=2, num_hidden_layers=1
    )
    with pytest.raises(EngineError, match="its embeddings are projected"):
        convert(ElectraModel(config), "electra", tmp_path / "ct2")


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


def test_int8_is_refused_without_texts() -> None:
    assert compare(_logits(), _logits(), 1.0)[0] == "there was no text to compare it with fp32."


def test_compared_texts_are_limited_by_tokens() -> None:
    assert len(sample_of([[1] * 10_000] * 5)) == 2
    assert len(sample_of([[1] * 100_000])) == 1
    assert sample_of([]) == []


def test_each_of_several_labels_is_an_answer() -> None:
    fp32 = np.array([[3, 0.1, -3], [-2, -2, -3]], np.float32)
    other = fp32 + np.array([[0, -0.15, 0], [0, 0, 0]], np.float32)
    assert compare(fp32, other, 1.0, several=True)[0] == "", "fp32 was not sure"
    sure = np.array([[3, 0.5, -3], [-2, -2, -3]], np.float32)
    refusal, _ = compare(sure, other, 1.0, several=True)
    assert refusal.startswith("on 2 texts 1 answers differ, 1 of them where fp32 is sure")


def test_drift_is_of_chosen_labels_and_the_most_probable() -> None:
    fp32 = np.array([[0.2, *[-8] * 9], [-0.2, *[-8] * 9]], np.float32)
    refusal, _ = compare(fp32, fp32 + np.float32(0.15), 1.0, several=True)
    assert "0 of them where fp32 is sure, and their probability by 0.037" in refusal
