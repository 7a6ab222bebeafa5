"""methods.cross_fitting: each text is answered by a fit without its fold."""

from __future__ import annotations

import numpy as np
import pytest

from services.trainer.data.features import Flags
from services.trainer.methods.cross_fitting import fits_by_fold


@pytest.mark.parametrize("threads", [1, 3])
def test_each_fold_has_a_fit_without_it(threads: int) -> None:
    folds, done = np.array([2, 0, 2, 7, 0], np.int64), list[int]()
    found = list(fits_by_fold(folds, lambda inside: (~inside).tolist(), done.append, threads))
    assert [inside.tolist() for inside, _ in found] == [(folds == fold).tolist() for fold in (0, 2, 7)]
    assert all(fit == (~inside).tolist() for inside, fit in found)
    assert done == [1, 2, 3]


def test_one_fold_alone_has_no_fit() -> None:
    done = list[int]()
    assert list(fits_by_fold(np.zeros(4, np.int64), lambda _: 1, done.append)) == []
    assert done == [1]


def test_what_a_fit_raises_ends_all() -> None:
    def fail(_: Flags) -> int:
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        list(fits_by_fold(np.arange(3), fail, threads=2))
