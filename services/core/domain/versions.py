"""Versions: metrics, lineage and files of each, the report, and the table of served versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.core.documents import FORMAT, Extensible
from services.core.domain.projects import Method, Parameters


@dataclass(frozen=True, slots=True)
class Estimate:
    """Accuracy out of sample, with its interval; usually an underestimate."""

    judged: int
    right: int
    low: float
    high: float
    """Wilson interval, 95 %."""
    macro_f1: float
    source: str
    """`cross-fit` or `holdout`."""
    judged_without_near_duplicates: int = 0
    right_without_near_duplicates: int = 0


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Promote or hold, with the reasons."""

    promote: bool
    kind: str
    """A closed list, for metrics: first, labels-changed, not-worse, better, worse, label-worse, not-better, too-few."""
    reasons: tuple[str, ...]
    compared_with: str | None = None
    pairs: int = 0
    fixed: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a version: lower-case hex sha256, and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """The labels, settings and code that a version was made from."""

    run: str
    annotation_ids: tuple[int, ...]
    """The annotations that gave its labels: the newest of each task; from an earlier release, all of each task."""
    annotations_hash: str
    """Digest of the labels that the run was requested for (LabelState.digest)."""
    label_config_hash: str
    base_model: str
    base_digest: str
    code_version: str
    parameters: Parameters
    parent: str | None
    texts: int
    """Texts that it was trained on."""
    trained_on_everything: bool
    """False: the served model was not trained on the holdout."""
    resumed_from: str | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """How to load a version: the layout of its fp32 weights, and the engine that serves it."""

    layout: str
    """`sequence-classification` (transformers) or `sentence-transformers`."""
    engine: str
    """`ct2-int8` (in the folder `ct2/`) or `torch-fp32`."""
    engine_reason: str
    max_length: int
    temperature: float
    """Divides the logits; 1.0 if it is folded into the last layer."""
    padded: bool = True
    """False: padding would change the model's answers, so only texts of one length are computed together."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """How many of a version's texts were truncated. Lengths are in tokens."""

    texts: int
    cut: int
    longest: int
    max_length: int
    """The limit: FITLOOP_MAX_LENGTH, or the base model's if that is smaller."""
    most: int = 0
    """The base model's limit; 0: none."""
    cost: float = 1.0
    """Factor by which the tokens would grow without truncation, or with truncation at `most` only."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """versions/<version>/manifest.json: written last; without it the version does not exist."""

    version: str
    project_key: str
    method: Method
    labels: tuple[str, ...]
    artefact: Artefact
    estimate: Estimate
    gate: GateDecision
    lineage: Lineage
    created_at: float
    files: dict[str, FileEntry] = field(default_factory=dict)
    multi_label: bool = False
    from_name: str = ""
    """The control of the label config that it predicts; "" from an earlier release."""
    truncation: Truncation | None = None
    """None from an earlier release."""
    format: int = FORMAT


def expired_versions(
    manifests: Iterable[Manifest], kept: frozenset[str], keep_versions: int, keep_days: float, now: float
) -> list[str]:
    """List the versions to delete: beyond the newest `keep_versions`, older than `keep_days`, and not in `kept`."""
    newest_first = sorted(manifests, key=lambda manifest: manifest.created_at, reverse=True)
    old = (one for one in newest_first[keep_versions:] if now - one.created_at > keep_days * 86_400)
    return [one.version for one in old if one.version not in kept]


@dataclass(frozen=True, slots=True)
class OutOfSample:
    """oos.json: out-of-sample predictions by text key, by which versions are compared. It holds no text."""

    labels: tuple[str, ...]
    source: str
    answers: dict[str, tuple[float, ...]]
    """Text key → calibrated probability of each label."""
    trained_keys: tuple[str, ...] = ()
    """All text keys of this version's lineage: it may not be evaluated again on these."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Served(Extensible):
    """The versions that one project serves."""

    current: str | None = None
    previous: str | None = None
    target: str | None = None
    since: float = 0.0
    """When `current` takes effect: shortly after the write, so that all replicas switch at the same moment."""
    why: str = ""
    pinned: bool = False
    target_since: float = 0.0
    """When `target` was written; 0 if there is none, or from an earlier release."""

    def effective_version(self, now: float) -> str | None:
        """Return the version in effect at `now`: the one that is announced, and that answers."""
        return self.current if now >= self.since else self.previous


@dataclass(frozen=True, slots=True)
class Serving(Extensible):
    """serving.json: the one object that changes; only the leader writes it."""

    term: int = 0
    generation: int = 0
    projects: dict[str, Served] = field(default_factory=dict)
    format: int = FORMAT


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
class Report:
    """versions/<version>/report.json."""

    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    """True labels are rows, predicted ones columns, in the order of `labels`."""
    per_label: tuple[LabelMetrics, ...] = ()
    wrong: tuple[WrongPrediction, ...] = ()
    """The most confident first."""
    dropped: dict[str, int] = field(default_factory=dict)
    not_counted: tuple[Uncounted, ...] = ()
    """The same with examples; a report of an earlier release has only `dropped`."""
    third_opinion: tuple[int, ...] = ()
    """Tasks on which annotators disagree."""
    changed: ChangedPredictions | None = None
    """None if there was nothing to compare with, or from an earlier release."""
    format: int = FORMAT
