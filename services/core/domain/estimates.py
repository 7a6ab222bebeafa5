"""How accurate a version is, and whether it is promoted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.core.documents import Extensible

FROM_LABEL_NAMES: Final = "from label names only, not evaluated"
"""Shown instead of an accuracy for a version that was trained on no label."""


class Selection(StrEnum):
    """How the texts were chosen that people labelled, as far as can be known."""

    UNKNOWN = "unknown"
    RANDOM = "random"
    """As if at random."""
    UNCERTAIN = "uncertain"
    """The most uncertain first."""

    @classmethod
    def _missing_(cls, value: object) -> Selection | None:
        """Keep what only a later release knows, as it is written."""
        if not isinstance(value, str):
            return None
        found = str.__new__(cls, value)
        found._name_ = found._value_ = value
        return found


@dataclass(frozen=True, slots=True)
class Estimate:
    """Accuracy out of sample on the labelled texts, with its interval; far too low where they were chosen by uncertainty."""

    judged: int
    right: int
    low: float
    high: float
    """Wilson interval, 95 %."""
    macro_f1: float
    source: str
    """`cross-fit`, `holdout`, `later-labels` (of a class of the operator's, on tasks annotated since its `fit` began), or "" of a version
    that was not evaluated."""
    judged_without_near_duplicates: int = 0
    right_without_near_duplicates: int = 0
    micro_f1: float | None = None
    """Over all labels, where a text may have several; `right` are then the texts of which all are. None: a text has one label."""


NOT_EVALUATED: Final = Estimate(0, 0, 0.0, 1.0, 0.0, "")


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Promote or hold, with the reasons."""

    promote: bool
    kind: str
    """A closed list, for metrics: first, label-names, not-evaluated, labels-changed, not-worse, better, worse, label-worse, not-better,
    too-few."""
    reasons: tuple[str, ...]
    compared_with: str | None = None
    pairs: int = 0
    fixed: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class ExpectedAccuracy:
    """Accuracy to expect on the project's texts: the mean calibrated probability of the answers to unlabelled texts.

    It is the headline figure, as "about 80 % (±5)"; `Estimate` is too low where labels were chosen by uncertainty.
    """

    accuracy: float | None
    """None: `reason` says why there is no figure."""
    margin: float = 0.0
    """Half of the interval, as a share."""
    texts: int = 0
    """Unlabelled texts that it was computed from; 0 if nearly all are labelled: then it is the cross-validated accuracy."""
    reason: str = ""
    selection: Selection = Selection.UNKNOWN
    """How the labelled texts were chosen."""
    measure: str = "accuracy"
    """What the figure is; `F1` over all labels where a text may have several."""


@dataclass(frozen=True, slots=True)
class EstimateScore(Extensible):
    """The accuracy that was expected of one version, compared with annotations that came after it."""

    version: str
    created_at: float
    """When the version was made."""
    expected: float
    margin: float
    annotations: int
    """Texts that it had answered, and that people labelled later."""
    right: int
    observed: float
    """Accuracy on the project's texts that its answers to these indicate."""
    chance: float
    """Standard deviation of `observed`."""
    selection: Selection
    """How those texts were chosen."""

    @property
    def error(self) -> float:
        """By how much the expected accuracy was too high; negative: too low."""
        return self.expected - self.observed


@dataclass(frozen=True, slots=True)
class EstimateErrors:
    """By how much the expected accuracy of the last versions was off."""

    versions: int
    error: float
    """Mean absolute error."""
    bias: float
    """Mean error; positive: too high."""
    chance: float
    """Mean absolute error that chance alone would cause, if all expected accuracies were true."""
    annotations: int
    """The fewest annotations that a version was compared with."""
    selection: Selection
    """How the annotated texts of most versions were chosen."""
