"""Texts of several labels as points around their centres, in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.trainer.data.features import Floats, Rows
from services.trainer.methods import Head


@dataclass(frozen=True)
class Points:
    """Texts with their labels, others without, and names."""

    X: Floats
    targets: Rows
    pool: Floats
    pool_targets: Rows
    names: Floats


def points(n: int = 24, m: int = 300, d: int = 24, labels: int = 6, seed: int = 0) -> Points:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(labels, d))

    def draw(count: int) -> tuple[Floats, Rows]:
        targets = random.permutation(np.arange(count) % labels)
        return (centres[targets] + 1.5 * random.normal(size=(count, d))).astype(np.float32), targets

    names = (centres + random.normal(size=(labels, d))).astype(np.float32)
    return Points(*draw(n), *draw(m), names)


def accuracy(head: Head, x: Floats, targets: Rows) -> float:
    return float(((x @ head.weight.T + head.bias).argmax(axis=1) == targets).mean())
