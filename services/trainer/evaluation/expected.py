"""The accuracy to expect on the project's texts: the mean calibrated top probability of the answers to unlabelled texts.

Cross-validation asks how often labelled texts are answered right, and people label the texts of which a model is least sure: it then
reads 18 to 33 points too low. Probabilities need no labels, so they can be averaged over texts that were not selected; their
calibration is measured by the folds' temperature. docs/decisions/0047-expected-accuracy.md has the measurements.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from services.core.accuracy import TOO_FEW
from services.core.domain import Estimate, ExpectedAccuracy, LabelState, Selection
from services.trainer.data.dataset import Dataset
from services.trainer.data.features import Floats

MIN_LABELS: Final = 20
"""Labelled texts below which probabilities are not calibrated."""
MIN_LABELS_EACH: Final = 2
"""Labelled texts a label, on average, below which there is no figure."""
MIN_TEXTS: Final = 20
"""Unlabelled texts below which their mean says little."""
_NEARLY_ALL: Final = 0.8
"""Share of a project's tasks beyond which it does not matter how the labelled ones were chosen."""
_CENSUS_LABELS_EACH: Final = 10
"""Labelled texts a label from which on a tenth less of them makes little difference."""
_CENSUS_MARGIN: Final = 0.03
_CENSUS_LABELS: Final = 100
_LEAST_MARGIN: Final = 0.02
"""However many labels there are."""
_CHOSEN_MARGIN: Final = 0.05
"""The least margin where the labelled texts were chosen, or may have been: more of them do not make it smaller."""
_Z: Final = 1.96
"""Standard deviations of an interval that holds 95 %."""
_OPTIMISM: Final = 0.06
"""Times labels / labelled texts: how much surer a head of few texts a label is than right, beyond what the folds' temperature mends. Over
three data sets .05 to .08 at 2 to 6 texts a label, chosen or at random (decision 65)."""
_MIDDLE: Final = 0.5
"""The figure of unlabelled texts, which were left because they are easy, is too high for texts to come; one in which chosen texts count
as the folds answer them is too low. The margin reaches to the middle (decision 56)."""
_HARDER: Final = 0.08
"""By how much lower the answers to labelled texts are in probability than those to others, if they were chosen by uncertainty."""
_HARDER_SHARE: Final = 0.4
"""The same as a share of what the former lack to 1: where nearly all answers are right, no difference can be as large as that."""


def expected_accuracy(
    unseen: Floats | None, labelled: Floats, cross_validated: Estimate, dataset: Dataset
) -> ExpectedAccuracy:
    """Return the accuracy to expect, from calibrated probabilities (m, labels) of the served model for unlabelled texts.

    `labelled`: (evaluated, labels) those of the folds' models for the labelled texts; `cross_validated`: the accuracy of these.
    """
    n, labels = len(dataset.examples), len(dataset.labels)
    if n < max(MIN_LABELS, MIN_LABELS_EACH * labels):
        return ExpectedAccuracy(None, reason=TOO_FEW)
    if unseen is None or len(unseen) < MIN_TEXTS:
        return _of_labelled(cross_validated, dataset)
    return of_unlabelled(unseen, labelled, n, labelled_share(dataset.state))


def labelled_share(state: LabelState) -> float:
    """Return the share of the project's tasks that have an annotation; 1 if it is not known how many tasks there are.

    Of tasks and not of texts: nobody has counted the distinct texts of the tasks that are not labelled.
    """
    tasks = state.counts.tasks
    return min(1.0, state.annotated_tasks / tasks) if tasks else 1.0


def of_unlabelled(unseen: Floats, labelled: Floats, texts: int, share: float) -> ExpectedAccuracy:
    """Return the mean top probability of unlabelled texts (m, labels), less what few labelled texts make it too high, and its margin.

    `texts`: how many are labelled, this `share` of all texts.

    Where these were chosen by uncertainty, the others are easier than texts to come, of which such a share is like the labelled ones.
    """
    top, known = unseen.max(axis=1).astype(np.float64), labelled.max(axis=1)
    selection, mean = selection_of(known, top), float(top.mean())
    easier = 0.0 if selection is Selection.RANDOM or not len(known) else mean - float(known.mean())
    accuracy = max(0.0, mean - _OPTIMISM * unseen.shape[1] / texts)
    sampling = math.hypot(margin(accuracy, texts, selection), _Z * _error_of_mean(top))
    return ExpectedAccuracy(
        accuracy=accuracy,
        margin=sampling + _MIDDLE * share * max(0.0, easier),
        texts=len(top),
        selection=selection,
    )


def _of_labelled(found: Estimate, dataset: Dataset) -> ExpectedAccuracy:
    """Return the cross-validated accuracy if nearly all texts are labelled, and enough for the folds to miss little."""
    state, n = dataset.state, len(dataset.examples)
    is_census = state.annotated_tasks >= _NEARLY_ALL * state.counts.tasks > 0
    if not is_census or n < max(_CENSUS_LABELS, _CENSUS_LABELS_EACH * len(dataset.labels)):
        return ExpectedAccuracy(None, reason=TOO_FEW)
    interval = (found.high - found.low) / 2
    return ExpectedAccuracy(found.right / found.judged, max(_CENSUS_MARGIN, interval))


def selection_of(labelled: Floats, unseen: Floats) -> Selection:
    """Return how labelled texts were chosen, from top probabilities (n,) for them, and (m,) for unlabelled ones."""
    if not len(labelled):
        return Selection.UNKNOWN
    harder = float(unseen.mean() - labelled.mean())
    noise = math.hypot(_error_of_mean(labelled), _error_of_mean(unseen))
    # Texts to come are answered between both: a difference within the least margin needs no wider one.
    limit = max(_LEAST_MARGIN, min(_HARDER, _HARDER_SHARE * (1 - float(labelled.mean()))))
    if harder > limit + 2 * noise:
        return Selection.UNCERTAIN
    return Selection.RANDOM if harder <= limit else Selection.UNKNOWN


def margin(accuracy: float, texts: int, selection: Selection) -> float:
    """Return half of the interval in which the accuracy lies nearly always, for so many labelled texts.

    The temperature is fitted to right and wrong answers to these texts, so the figure has their sampling error: that of Agresti
    and Coull, which is not 0 where all answers are certain.
    """
    share = (accuracy * texts + 2) / (texts + 4)
    sampling = _Z * math.sqrt(share * (1 - share) / (texts + 4))
    return max(sampling, _LEAST_MARGIN if selection is Selection.RANDOM else _CHOSEN_MARGIN)


def _error_of_mean(values: Floats) -> float:
    return float(values.std() / np.sqrt(len(values)))
