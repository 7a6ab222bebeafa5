"""methods.zero_shot_sets: a head without labels, where a text may have several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.engine.head import Head, Layer
from services.trainer.data.features import Flags, Floats
from services.trainer.evaluation.set_metrics import micro_f1
from services.trainer.methods.zero_shot_sets import zero_shot_sets

LABELS, WIDTH = 8, 64


def _texts(count: int, seed: int) -> tuple[Floats, Flags, Floats]:
    """Return texts of none to three labels, which labels these are, and names near the labels' directions."""
    random = np.random.default_rng(seed)
    centres = 2 * random.normal(size=(LABELS, WIDTH))
    chosen = np.argsort(random.random((count, LABELS)), axis=1) < random.integers(0, 4, (count, 1))
    texts = chosen @ centres + random.normal(size=(count, WIDTH))
    names = centres + random.normal(size=(LABELS, WIDTH))
    return texts.astype(np.float32), chosen, names.astype(np.float32)


def _chosen(names: Floats, pool: Floats, texts: Floats) -> NDArray[np.bool_]:
    head, _ = zero_shot_sets(names, pool)
    return np.asarray(texts @ head.weight.T + head.bias >= 0)


def test_texts_get_the_labels_that_stand_out() -> None:
    texts, chosen, names = _texts(400, 0)
    found = _chosen(names, texts[:200], texts[200:])
    precision = (found & chosen[200:]).sum() / found.sum()
    assert precision > 0.9
    assert micro_f1(found, chosen[200:]) > 0.4
    assert (found.sum(axis=1) == 0).any()
    assert found.sum(axis=1).max() > 1


def test_names_that_say_nothing_are_hardly_suggested() -> None:
    random = np.random.default_rng(1)
    texts, names = (random.normal(size=(count, 384)).astype(np.float32) for count in (400, LABELS))
    assert _chosen(names, texts, texts).mean() < 0.001


def test_names_that_are_alike_are_not_all_suggested() -> None:
    """A text has one label at most, on average, however close it is to all names."""
    random = np.random.default_rng(5)
    topic = random.normal(size=(4, 1, WIDTH))
    names, texts = (
        (topic + 0.4 * random.normal(size=(4, count, WIDTH))).reshape(-1, WIDTH).astype(np.float32)
        for count in (10, 50)
    )
    assert 0.9 < _chosen(names, texts, texts).sum(axis=1).mean() <= 1.01


def test_thresholds_are_those_of_the_bias() -> None:
    """What is chosen by its logit is what is chosen by its probability."""
    texts, _, names = _texts(100, 3)
    head, thresholds = zero_shot_sets(names, texts)
    served = Head((Layer(head.weight, head.bias),), thresholds=thresholds)
    by_logit, probabilities = served.logits(texts) >= 0, served.probabilities(texts)
    clear = np.abs(served.logits(texts)) > 1e-3
    assert ((probabilities >= thresholds) == by_logit)[clear].all()
    assert ((thresholds > 0) & (thresholds < 1)).all()


@given(st.integers(0, 50), st.integers(1, 7), st.integers(0, 40))
def test_labels_may_come_in_any_order(seed: int, labels: int, count: int) -> None:
    texts, _, names = _texts(count, seed)
    order = np.random.default_rng(seed).permutation(labels)
    (head, _), (same, _) = (zero_shot_sets(rows, texts) for rows in (names[:labels], names[order]))
    assert np.isfinite(head.weight).all()
    assert same.weight == pytest.approx(head.weight[order], abs=1e-3)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_length_of_features_does_not_matter(scale: float) -> None:
    texts, _, names = _texts(100, 4)
    unit: Any = np.float32(scale)
    agree = _chosen(names, texts, texts) == _chosen(unit * names, unit * texts, unit * texts)
    assert agree.mean() > 0.999
