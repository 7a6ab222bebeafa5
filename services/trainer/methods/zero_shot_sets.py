"""A head from the names of labels and unlabelled texts alone, where a text may have several labels, or none.

A label is chosen if the text is close to its name. The best label of each text is no answer here: with few labels most texts have none
of them. Decision 61 has the measurements.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from services.engine.compute import sigmoid
from services.trainer.data.features import Floats
from services.trainer.methods import Head
from services.trainer.methods.names import name_features
from services.trainer.methods.scaling import Scale
from services.trainer.methods.thresholds import MAX_THRESHOLD
from services.trainer.methods.zero_shot import MAX_TEXTS

LEAST_COSINE: Final = 0.225
"""Of a text and a name, from which on the label may be chosen. Of names that say nothing the cosines have a standard deviation of .05."""
LABELS_A_TEXT: Final = 1.0
"""The most that are chosen on average: where many names are close to each other and to all texts, the least cosine is too low."""
_SLOPE: Final = 12.0
_SHIFT: Final = -4.0
"""Of the logit of a label by its cosine, as fitted to NLU++. Nobody is shown the probability: it orders the tasks."""


def zero_shot_sets(names: Floats, pool: Floats) -> tuple[Head, Floats]:
    """Return a head for features as the encoder gives them, and the thresholds (labels,) that are folded into its bias.

    From the features of the names (labels, d) and of unlabelled texts (m, d). What is chosen has a logit >= 0.
    """
    scale = Scale.of(pool[:MAX_TEXTS], pool[:0])
    N = name_features(names)
    least = _least_cosine(scale.apply(pool[:MAX_TEXTS]) @ N.T)
    bias = np.full(len(N), -_SLOPE * least, np.float32)
    logit = min(_SLOPE * least + _SHIFT, MAX_THRESHOLD)
    return scale.fold(Head(np.float32(_SLOPE) * N, bias)), sigmoid(np.full(len(N), logit, np.float32))


def _least_cosine(cosines: Floats) -> float:
    """Return from which cosine on a label is chosen, by those (m, labels) of unlabelled texts."""
    texts, labels = cosines.shape
    if not texts or labels <= LABELS_A_TEXT:
        return LEAST_COSINE
    return max(LEAST_COSINE, float(np.quantile(cosines, 1 - LABELS_A_TEXT / labels)))
