"""report.json of a version as readers know it: out-of-sample figures for people, and no text of a task.

A report of an earlier release has no `changed`; what a reader does not know is passed over. Shares are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.core.documents import FORMAT


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Annotations or tasks that do not count, all for one reason."""

    reason: str
    """See `core.uncounted`."""
    count: int
    examples: tuple[str, ...] = ()
    """A few of the labels or controls that were found instead, the commonest first."""


@dataclass(frozen=True, slots=True)
class LabelMetrics:
    """How a version does on the texts of one label; None where nothing can be said."""

    label: str
    examples: int = 0
    """Texts that have this label."""
    judged: int = 0
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    note: str = ""
    """`too few to judge`, or ""."""


@dataclass(frozen=True, slots=True)
class WrongPrediction:
    """A judged text that was answered wrongly."""

    task_id: int
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ChangedPrediction:
    """A text on which a version and the one before it differ, one of them being right."""

    task_id: int
    true: str
    before: str | None = None
    """None: the label was new, so the version before could not know it."""
    now: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedPredictions:
    """What became better and worse; of each as many as are named, which may be fewer than the gate counted."""

    compared_with: str
    texts: int
    """Compared."""
    fixed: tuple[ChangedPrediction, ...] = ()
    broken: tuple[ChangedPrediction, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """versions/<version>/report.json."""

    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    """True labels are rows, predicted ones columns, in the order of `labels`."""
    per_label: tuple[LabelMetrics, ...] = ()
    wrong: tuple[WrongPrediction, ...] = ()
    """The surest first."""
    dropped: dict[str, int] = field(default_factory=dict)
    not_counted: tuple[Uncounted, ...] = ()
    """The same with examples; a report of an earlier release has `dropped` alone."""
    third_opinion: tuple[int, ...] = ()
    """Tasks on which annotators disagree."""
    changed: ChangedPredictions | None = None
    """None: there was nothing to compare with, or an earlier release wrote it."""
    format: int = FORMAT
