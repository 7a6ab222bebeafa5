"""How typical labelled texts are of a project, whose annotators may label what a model is least sure of first.

Such texts lie between labels: what they say of names, and of texts that are plainly of one label, is less than their number suggests.
With four labels and the 60 texts that the names tell least about, a head that took them for random ones was right on 76 %, names alone
on 85 % (decision 64).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.trainer.data.features import Floats
from services.trainer.methods.zero_shot import NAME_WEIGHT, SERVED_SLOPE, mixture

_RANDOM: Final = 0.5
"""The mean place of texts that were drawn at random among the unlabelled ones."""


def typicality(X: Floats, N: Floats, pool: Floats) -> float:
    """Return 1 if labelled texts X (n, d) look drawn at random, less the less sure names alone are of them; all features are scaled.

    It is twice their mean place among the unlabelled texts (m, d), 0 to 1, in the order of how far the two likeliest labels are apart.
    `N`: (labels, d) from `name_features`. Without names, labelled or unlabelled texts nothing can be said: 1.
    """
    if not len(X) or not len(pool) or len(N) < 2 or not N.any():
        return 1.0
    centres, logs = mixture(np.float32(NAME_WEIGHT) * N, pool)
    order = np.sort(_gaps(pool, centres, logs))
    places = np.searchsorted(order, _gaps(X, centres, logs)) / len(pool)
    return min(1.0, float(places.mean()) / _RANDOM)


def _gaps(X: Floats, centres: Floats, logs: Floats) -> NDArray[np.float32]:
    """Return by how much the likeliest label's logit exceeds the next one's, (n,)."""
    two = np.partition(np.float32(SERVED_SLOPE) * (X @ centres.T) + logs, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0], np.float32)
