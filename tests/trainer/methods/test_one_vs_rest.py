"""A head where a text may have several labels: its fits, the weight of names, and thresholds by folds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.trainer.data.features import Features
from services.trainer.methods.binary_fits import ABSENT, C, fit_each
from services.trainer.methods.one_vs_rest import fit_by_folds, fit_with_names, trust_each

Floats = NDArray[np.float32]
D, LABELS = 16, 4


def _world(count: int, seed: int = 0, noise: float = 0.3) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return texts that are sums of their labels' directions, their labels, and the directions as names."""
    random = np.random.default_rng(seed)
    names = np.linalg.qr(random.normal(size=(D, LABELS)))[0].T.astype(np.float32)
    chosen = random.random((count, LABELS)) < 0.3
    texts = chosen @ names + noise / np.sqrt(D) * random.normal(size=(count, D))
    return texts.astype(np.float32), chosen, names


def test_each_label_is_a_logistic_regression_by_itself() -> None:
    texts, chosen, _ = _world(60)
    together = fit_each(texts, chosen, np.ones(chosen.shape, np.float32), tolerance=1e-6)
    for label in range(LABELS):
        alone = fit_each(texts, chosen[:, [label]], np.ones((len(texts), 1), np.float32), tolerance=1e-6)
        assert np.allclose(together.weight[label], alone.weight[0], atol=0.05)
    rows = np.hstack([texts, np.ones((len(texts), 1))])
    weights = np.hstack([together.weight, together.bias[:, None]]).astype(np.float64)
    p = 1 / (1 + np.exp(-rows @ weights.T))
    penalty = np.hstack([weights[:, :-1], np.zeros((LABELS, 1))])
    assert np.abs(C * (p - chosen).T @ rows + penalty).max() < 1e-6 * C * len(texts) * 10


def test_a_label_without_an_example_is_improbable() -> None:
    texts, chosen, _ = _world(30)
    chosen[:, 1] = False
    head = fit_each(texts, chosen, np.ones(chosen.shape, np.float32))
    assert head.bias[1] == ABSENT
    assert not head.weight[1].any()


def test_no_label_at_all_is_no_error() -> None:
    texts = _world(5)[0]
    head = fit_each(texts, np.zeros((5, LABELS), np.bool_), np.ones((5, LABELS), np.float32))
    assert head.bias.tolist() == [ABSENT] * LABELS


def test_names_that_agree_are_trusted() -> None:
    texts, chosen, names = _world(80)
    assert trust_each(texts, chosen, names) == 1.0
    assert trust_each(texts[:0], chosen[:0], names) == 1.0
    assert trust_each(texts, chosen, np.zeros_like(names)) == 0.0


def test_names_of_other_labels_are_not_trusted() -> None:
    texts, chosen, names = _world(400)
    assert trust_each(texts, chosen, names[[1, 2, 3, 0]]) < 0.2


def test_a_name_teaches_a_label_without_examples() -> None:
    texts, chosen, names = _world(80)
    seen = chosen.copy()
    seen[:, 2] = False
    head = fit_with_names(texts[~chosen[:, 2]], seen[~chosen[:, 2]], names)
    logits = texts @ head.weight[2] + head.bias[2]
    assert logits[chosen[:, 2]].min() > logits[~chosen[:, 2]].max() - 1


@pytest.mark.parametrize("known", [True, False])
def test_what_is_chosen_has_a_logit_above_0(known: bool) -> None:
    texts, chosen, names = _world(200, noise=0.2)
    features = Features([], texts, names if known else np.zeros((0, D), np.float32), texts[:0])
    found = fit_by_folds(features, chosen, np.arange(200) % 10)
    for logits in (found.logits, texts @ found.head.weight.T + found.head.bias):
        assert ((logits >= 0) == chosen).mean() > 0.97
    assert found.rows.tolist() == list(range(200))
    again = fit_by_folds(features, chosen, np.arange(200) % 10)
    assert np.array_equal(found.head.weight, again.head.weight)


def test_one_fold_has_no_answers_out_of_fold() -> None:
    texts, chosen, names = _world(6)
    found = fit_by_folds(Features([], texts, names, texts[:0]), chosen, np.zeros(6, np.int64))
    assert (len(found.rows), found.logits.shape) == (0, (0, LABELS))
    assert np.isfinite(found.head.bias).all()
