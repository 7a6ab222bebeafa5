"""report.json of a version: what people read about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.core.documents import FORMAT


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Annotations or tasks that do not count, all for the same reason."""

    reason: str
    """See `core.labels.uncounted`."""
    count: int
    examples: tuple[str, ...] = ()
    """A few of the labels or controls found instead, the most frequent first."""


@dataclass(frozen=True, slots=True)
class LabelMetrics:
    """Metrics of one label; None where there are too few texts for an estimate."""

    label: str
    examples: int = 0
    judged: int = 0
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    note: str = ""
    """`too few to judge`, or ""."""


@dataclass(frozen=True, slots=True)
class WrongPrediction:
    """An evaluated text whose prediction is wrong."""

    task_id: int
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ChangedPrediction:
    """A text on which a version and the one before differ, and one of them is right."""

    task_id: int
    true: str
    before: str | None = None
    """None: the label is new, so the version before could not predict it."""
    now: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedPredictions:
    """Texts that became right or wrong. Each list may be shorter than the gate's count."""

    compared_with: str
    texts: int
    """Number of compared texts."""
    fixed: tuple[ChangedPrediction, ...] = ()
    broken: tuple[ChangedPrediction, ...] = ()


@dataclass(frozen=True, slots=True)
class Confusion:
    """Texts of one label that were predicted as another; labels by their index in `Report.labels`."""

    true: int
    predicted: int
    texts: int
    tasks: tuple[int, ...] = ()
    """Ids of example tasks, the most confident prediction first."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The answers whose probability lies in one of the equal steps from 0 to 1."""

    texts: int
    """Texts with such an answer."""
    probability: float | None = None
    """Mean probability; None without texts."""
    right: float | None = None
    """Share of correct answers; None without texts."""
    answers: int = 0
    """Where a text may have several labels, each label of each text has one; 0 from an earlier release: as many as texts."""
    independent: float = 0.0
    """Independent answers that would vary as much by chance: those to one text are not. 0 from an earlier release."""


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Evaluated texts that were truncated, and how the answers to them are."""

    judged: int = 0
    right: int = 0
    tasks: tuple[int, ...] = ()
    """Of all truncated texts the longest, the longest first."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two texts that are nearly equal, in different folds; labels by their index in `Report.labels`."""

    task_id: int
    other_task_id: int
    similarity: float
    """Cosine of their features."""
    true: int
    other_true: int


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Texts of which another fold holds one that is nearly equal."""

    texts: int = 0
    contradicting: int = 0
    """Of these, texts whose nearest one has another label."""
    pairs: tuple[NearDuplicate, ...] = ()
    """Some of them, contradicting ones first."""


@dataclass(frozen=True, slots=True)
class LabelDisagreement:
    """Tasks that got a label by a majority, and on how many of them all annotators agreed."""

    label: str
    tasks: int
    agreed: int


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How annotators agree with each other, on tasks that two or more labelled and that have no ground truth."""

    tasks: int = 0
    agreed: int = 0
    """All annotators gave one label."""
    tied: int = 0
    """No label has a majority."""
    examples: tuple[int, ...] = ()
    """Ids of tasks on which they disagree, ties first."""
    per_label: tuple[LabelDisagreement, ...] = ()
    """The labels with the most tasks on which they disagree."""


@dataclass(frozen=True, slots=True)
class SuspectLabel:
    """A text's label that may be wrong; labels by their index in `Report.labels`.

    Where a text may have several labels, it is one label that was given (`other` is None) or was not (`given` is None).
    """

    task_id: int
    annotation: int
    """The newest annotation that gave the label."""
    given: int | None
    other: int | None
    """The most probable other label."""
    probability: float
    """That what was annotated is right."""
    other_probability: float
    changed_at: int = 0
    """When the task's annotations were last made or edited, in seconds since the epoch; 0 from an earlier release."""


@dataclass(frozen=True, slots=True)
class SuspectLabels:
    """Labels that may be wrong, by models that were not trained on the text."""

    rows: tuple[SuspectLabel, ...] = ()
    """The least probable first."""
    count: int = 0
    """Their number, of which `rows` may list only some."""
    confirmed: int = 0
    """Labels that were listed before, and confirmed since: they are not listed again."""
    changed: int = 0
    """Labels that were listed before, and changed since."""
    too_few: bool = False
    """Whether there were too few texts to say anything."""
    checked: int = 0
    """Labels that were in `rows` and that people have checked since; pages and commands leave them out. 0 in a stored report."""


@dataclass(frozen=True, slots=True)
class Report:
    """versions/<version>/report.json.

    Its size is bounded: see `trainer.evaluation.report`. A field that an earlier release did not write has its default.
    """

    texts: int = 0
    """Labelled texts, evaluated or not."""
    judged: int = 0
    """Evaluated ones; 0 from an earlier release: those of all bins of `reliability`."""
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    """True labels are rows, predicted ones columns, in the order of `labels`; () with very many labels."""
    confusions: tuple[Confusion, ...] = ()
    """The most frequent first; () from an earlier release."""
    per_label: tuple[LabelMetrics, ...] = ()
    wrong: tuple[WrongPrediction, ...] = ()
    """The most confident first."""
    dropped: dict[str, int] = field(default_factory=dict)
    not_counted: tuple[Uncounted, ...] = ()
    """The same with examples; a report of an earlier release has only `dropped`."""
    not_counted_tasks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Reason → a few ids of tasks."""
    third_opinion: tuple[int, ...] = ()
    """Tasks without a majority for one label."""
    third_opinions: int = 0
    """Their number, of which `third_opinion` may list only some; 0 from an earlier release, which lists all."""
    changed: ChangedPredictions | None = None
    """None if there was nothing to compare with, or from an earlier release."""
    temperature: float | None = None
    expected_calibration_error: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    cut: CutTexts | None = None
    near_duplicates: NearDuplicates | None = None
    disagreement: Disagreement | None = None
    suspects: SuspectLabels | None = None
    """None from an earlier release."""
    format: int = FORMAT
