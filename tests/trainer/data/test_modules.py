"""A base model's own pooling, dense layers, normalisation and prompt give what sentence-transformers computes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from services.core.encoders import Encoders
from services.core.errors import BadConfig
from services.core.registry import Registry
from services.core.store.files import FileStore
from services.engine.compute import Features
from services.engine.loading import Loader
from services.engine.pooling import MODES
from services.engine.torch import pad_batch
from services.trainer.data.base_model import load_base
from services.trainer.data.modules import POOLING_FLAGS
from services.trainer.methods.pooled import pool
from services.trainer.publishing import int8
from services.trainer.publishing.encoder import publish_encoder
from tests.support.base_models import TEXTS, build_tiny_base, minilm

KINDS = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}


def write_modules(folder: Path, *paths: str, pooling: dict[str, Any] | None = None) -> Path:
    """Give the base model modules.json and what it names."""
    kinds = [
        {"path": path, "type": f"sentence_transformers.models.{KINDS.get(path, path)}"} for path in paths
    ]
    write(folder / "modules.json", kinds)
    write(folder / "1_Pooling" / "config.json", pooling or {"pooling_mode_mean_tokens": True})
    return folder


def write_dense(
    folder: Path, activation: str = "torch.nn.modules.activation.Tanh"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write a Dense module from 32 to 8 dimensions; return its weight and bias."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(8, 32, generator=generator), torch.randn(8, generator=generator)
    write(folder / "2_Dense" / "config.json", {"bias": True, "activation_function": activation})
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    return weight, bias


def write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def hidden_states(base: Path, texts: list[str]) -> list[torch.Tensor]:
    """Return (tokens, d) of each text, computed alone: no padding can be in the way."""
    found = load_base(str(base), 32)
    with torch.inference_mode():
        return [
            found.encoder(torch.tensor([found.tokenizer.encode(text).ids])).last_hidden_state[0]
            for text in texts
        ]


def served(base: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Features:
    """Return what the published encoder answers, without int8's rounding."""
    monkeypatch.setattr(int8, "QUANTIZATION", "float32")
    bucket = FileStore(store)
    manifest = publish_encoder(bucket, load_base(str(base), 32)).manifest
    assert Encoders(bucket).manifest(manifest.digest).engine == "ct2-int8", manifest.engine_reason
    return Loader(Registry(bucket)).encoder(manifest).features_of(TEXTS)


REFERENCE = {
    "cls": lambda h: h[0],
    "lasttoken": lambda h: h[-1],
    "max": lambda h: h.max(0).values,
    "mean": lambda h: h.mean(0),
    "mean_sqrt_len_tokens": lambda h: h.sum(0) / len(h) ** 0.5,
    "weightedmean": lambda h: (
        (h * torch.arange(1, len(h) + 1)[:, None]).sum(0) / torch.arange(1, len(h) + 1).sum()
    ),
}
"""sentence-transformers' definitions, for one text without padding."""


@pytest.mark.parametrize("mode", MODES)
def test_features_are_those_of_the_pooling_mode(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {flag: one == mode for flag, one in POOLING_FLAGS.items()}
    base = write_modules(build_tiny_base(tmp_path / "base"), "", "1_Pooling", pooling=flags)
    expected = torch.stack([REFERENCE[mode](one) for one in hidden_states(base, list(TEXTS))])
    assert np.abs(served(base, tmp_path / "store", monkeypatch) - expected.numpy()).max() < 1e-4


def test_dense_layers_and_normalisation_are_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("", "1_Pooling", "2_Dense", "3_Normalize")
    base = write_modules(build_tiny_base(tmp_path / "base"), *paths, pooling={"pooling_mode": "cls"})
    weight, bias = write_dense(base)
    hidden = torch.stack([one[0] for one in hidden_states(base, list(TEXTS))])
    expected = torch.nn.functional.normalize(torch.tanh(hidden @ weight.T + bias))
    found = served(base, tmp_path / "store", monkeypatch)
    assert found.shape == (len(TEXTS), 8)
    assert np.abs(found - expected.numpy()).max() < 1e-4


def test_default_prompt_is_put_before_each_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_modules(build_tiny_base(tmp_path / "base"), "", "1_Pooling", "3_Normalize")
    prompts = {"prompts": {"query": "my order ", "passage": "the parcel "}, "default_prompt_name": "query"}
    write(base / "config_sentence_transformers.json", prompts)
    hidden = hidden_states(base, [f"my order {text}" for text in TEXTS])
    expected = torch.nn.functional.normalize(torch.stack([one.mean(0) for one in hidden]))
    assert np.abs(served(base, tmp_path / "store", monkeypatch) - expected.numpy()).max() < 1e-4


def test_plain_transformers_are_averaged_and_normalised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build_tiny_base(tmp_path / "base")
    hidden = hidden_states(base, list(TEXTS))
    expected = torch.nn.functional.normalize(torch.stack([one.mean(0) for one in hidden]))
    assert np.abs(served(base, tmp_path / "store", monkeypatch) - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_training_pools_as_serving_does(tmp_path: Path, mode: str) -> None:
    flags = {flag: one == mode for flag, one in POOLING_FLAGS.items()}
    base = write_modules(build_tiny_base(tmp_path), "", "1_Pooling", "2_Dense", "3_Normalize", pooling=flags)
    write_dense(base)
    pooler = load_base(str(base), 32).pooler
    hidden = torch.randn(2, 3, 32)
    _, mask = pad_batch([[1], [1, 2, 3]], 0)
    expected = pooler.pool(hidden.numpy(), [1, 3])
    assert np.abs(pool(hidden, mask, pooler).numpy() - expected).max() < 1e-5


def test_texts_are_lowered_where_the_model_says_so(tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path / "base")
    document = json.loads((base / "tokenizer.json").read_bytes())
    document["normalizer"] = None
    write(base / "tokenizer.json", document)
    before = load_base(str(base), 32).tokenizer
    write(base / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    after = load_base(str(base), 32).tokenizer
    assert before.encode("MY ORDER").ids != before.encode("my order").ids == after.encode("MY ORDER").ids


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (("", "1_Pooling", "CNN"), None, "its module 'CNN' is unknown to Fitloop"),
        (("", "3_Normalize", "1_Pooling"), None, r"its modules \(Transformer, Normalize, Pooling\) are not"),
        (
            ("", "1_Pooling"),
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "cls and mean",
        ),
        (("", "1_Pooling"), {"pooling_mode": "attention"}, "its pooling is attention"),
        (("", "1_Pooling", "2_Dense"), None, "its Dense layers cannot be read"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    tmp_path: Path, modules: tuple[str, ...], pooling: dict[str, Any] | None, message: str
) -> None:
    base = write_modules(build_tiny_base(tmp_path), *modules, pooling=pooling)
    if "2_Dense" in modules:
        write_dense(base, "torch.nn.modules.activation.Mish")
    with pytest.raises(BadConfig, match=message):
        load_base(str(base), 32)


def test_prompt_that_pooling_leaves_out_is_refused(tmp_path: Path) -> None:
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    base = write_modules(build_tiny_base(tmp_path), "", "1_Pooling", pooling=pooling)
    load_base(str(base), 32)
    write(base / "config_sentence_transformers.json", {"prompts": {"q": "q: "}, "default_prompt_name": "q"})
    with pytest.raises(BadConfig, match="include_prompt"):
        load_base(str(base), 32)


@pytest.mark.skipif(minilm() is None, reason="the package with all-MiniLM-L6-v2's weights is not installed")
def test_minilm_gives_what_sentence_transformers_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = minilm()
    assert base is not None
    hidden = hidden_states(base, list(TEXTS))
    expected = torch.nn.functional.normalize(torch.stack([one.mean(0) for one in hidden]))
    assert np.abs(served(base, tmp_path / "store", monkeypatch) - expected.numpy()).max() < 1e-4
