"""The last layers of an encoder, trained on hidden states of the layer below."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from services.engine.tokenise import encode
from services.engine.torch import pad_batch
from services.trainer.data.base_model import BaseModel, load_base
from services.trainer.methods import Head
from services.trainer.methods.hidden_states import Texts, compute_states, fits_in_cache
from services.trainer.methods.loop import logits_of
from services.trainer.methods.pooled import PooledClassifier
from services.trainer.methods.top_layers import TopLayers, can_cut, freeze_lower, layers_of, share_of_top
from services.trainer.process.lifecycle import Stop
from tests.support.base_models import TEXTS, build_tiny_base

HEAD = Head(np.eye(3, 32, dtype=np.float32), np.zeros(3, np.float32))


def base_of(folder: Path, architecture: str = "bert", layers: int = 4) -> BaseModel:
    return load_base(str(build_tiny_base(folder, architecture, spread=0.3, layers=layers)), 64)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "deberta-v2"])
def test_cut_encoders_answer_as_the_whole(tmp_path: Path, architecture: str) -> None:
    base = base_of(tmp_path, architecture)
    assert can_cut(base)
    ids = encode(base.tokenizer, TEXTS)
    states = compute_states(base.encoder, ids, base.pad_id, Stop(), padded=True)
    assert states is not None
    whole = PooledClassifier(base.encoder, base.pooler, HEAD)
    cut = TopLayers(copy.deepcopy(base.encoder), base.pooler, HEAD)
    expected = logits_of(whole, Texts(ids, base.pad_id), 3, Stop())
    texts = Texts(ids, base.pad_id, states)
    np.testing.assert_allclose(logits_of(cut, texts, 3, Stop()), expected, atol=2e-3)
    last = logits_of(cut, texts.some([3, 1]).some([1]), 3, Stop())
    np.testing.assert_allclose(last, expected[[1]], atol=2e-3)
    joined = PooledClassifier(cut.join(), base.pooler, HEAD)
    np.testing.assert_allclose(logits_of(joined, Texts(ids, base.pad_id), 3, Stop()), expected, atol=1e-5)


def test_only_the_last_layers_are_trained(tmp_path: Path) -> None:
    encoder = base_of(tmp_path).encoder
    share = share_of_top(encoder)
    freeze_lower(encoder)
    trained = {
        name.partition(".attention")[0] for name, one in encoder.named_parameters() if one.requires_grad
    }
    assert share == 0.5
    assert {name[:15] for name in trained} == {"encoder.layer.2", "encoder.layer.3"}


def test_the_trained_weights_are_named_once(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    model = TopLayers(base.encoder, base.pooler, HEAD)
    pointers = [one.data_ptr() for one in model.state_dict().values() if one.is_floating_point()]
    assert len(pointers) == len(set(pointers))


def test_states_are_those_of_each_text(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    ids = encode(base.tokenizer, TEXTS)
    states = compute_states(base.encoder, ids, base.pad_id, Stop(), padded=True)
    assert states is not None
    _, mask = pad_batch([ids[4], ids[0]], base.pad_id)
    padded = states.padded([4, 0], mask)
    assert padded.shape == (2, mask.shape[1], 32)
    assert not padded[~mask.bool()].any()
    assert torch.equal(padded[1, : len(ids[0])], states.values[: len(ids[0])].float())


def test_too_few_layers_are_trained_whole(tmp_path: Path) -> None:
    base = base_of(tmp_path, layers=2)
    assert layers_of(base.encoder) is None
    assert not can_cut(base)
    assert share_of_top(base.encoder) == 1.0


def test_shared_weights_are_trained_whole(tmp_path: Path) -> None:
    encoder = base_of(tmp_path).encoder
    layers: Any = layers_of(encoder)
    layers[0].output.dense = layers[3].output.dense
    assert layers_of(encoder) is None


def test_layers_that_pass_more_than_states_are_not_cut(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    encoder, layers = cast("Any", base.encoder), cast("Any", layers_of(base.encoder))
    seen: list[torch.Tensor] = []
    encoder.embeddings.register_forward_hook(lambda *_: seen.clear())
    layers[0].register_forward_hook(lambda *given: seen.append(given[2]))
    layers[3].register_forward_hook(lambda *given: given[2] + (seen[0] if seen else 0))
    assert not can_cut(base)


def test_the_cache_is_bounded() -> None:
    assert fits_in_cache(600_000, 384)
    assert not fits_in_cache(600_000, 768)
