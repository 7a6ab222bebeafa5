"""One fit for each fold, without its texts, in threads: what answers texts out of sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from services.trainer.data.features import Flags, Rows

T = TypeVar("T")


def fits_by_fold(
    folds: Rows,
    fit_without: Callable[[Flags], T],
    report: Callable[[int], None] = lambda _: None,
    threads: int = 1,
) -> Iterator[tuple[Flags, T]]:
    """Yield (n,) which texts are in a fold, and the fit without them; a fold that has all texts is left out.

    `folds`: (n,) the fold of each text. `report` is told how many folds are done. What a fit raises ends all of them.
    """
    insides = [folds == fold for fold in np.unique(folds)]
    with ThreadPoolExecutor(threads, "fold") as pool:
        fits = pool.map(lambda inside: None if inside.all() else fit_without(inside), insides)
        for done, (inside, found) in enumerate(zip(insides, fits, strict=True), 1):
            if found is not None:
                yield inside, found
            report(done)
