"""The probe is scikit-learn's logistic regression, found faster."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.errors import Preempted
from services.engine.compute import softmax
from services.trainer.data.features import Floats, Rows
from services.trainer.methods import Head
from services.trainer.methods.linear_probe import C, fit_head
from services.trainer.process.lifecycle import Stop


def features(n: int = 240, d: int = 24, labels: int = 6) -> tuple[Floats, Rows]:
    random = np.random.default_rng(0)
    targets = random.integers(0, labels, n)
    x = random.normal(size=(labels, d))[targets] + 1.5 * random.normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), targets.astype(np.int64)


def probabilities(x: Floats, head: Head) -> Floats:
    return softmax(x @ head.weight.T + head.bias)


def test_probe_equals_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    x, targets = features()
    expected = LogisticRegression(C=C, tol=1e-8, max_iter=5_000).fit(x, targets).predict_proba(x)
    found = probabilities(x, fit_head(x, targets, 6))
    assert np.abs(found - expected).max() < 5e-3
    assert (found.argmax(1) == expected.argmax(1)).all()


def test_warm_start_converges_to_the_same() -> None:
    x, targets = features()
    warm = fit_head(x[:200], targets[:200], 6, start=fit_head(x, targets, 6))
    cold = fit_head(x[:200], targets[:200], 6)
    assert np.abs(probabilities(x, warm) - probabilities(x, cold)).max() < 5e-3


def test_a_label_without_an_example_gets_no_probability() -> None:
    x, targets = features()
    without = targets != 3
    head = fit_head(x[without], targets[without], 6)
    assert probabilities(x, head)[:, 3].max() < 1e-4
    alone = probabilities(x, fit_head(x[targets == 2], targets[targets == 2], 6))
    assert alone[:, 2].min() > 0.99


def test_probe_is_preempted_between_steps() -> None:
    x, targets = features()
    with pytest.raises(Preempted):
        fit_head(x, targets, 6, check=Stop(requested=True).check)
