"""What travels: the documents of the bucket and the small values that the rooms hand each other.

All frozen. Names follow Label Studio (task, annotation, project) and scikit-learn (labels, method, metrics).
Times are seconds since the epoch. Probabilities are floats in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from services.core.documents import FORMAT


class Method(StrEnum):
    """How a model is made (DESIGN-learning §3)."""

    AUTO = "auto"
    LINEAR_PROBE = "linear-probe"
    LP_FT = "lp-ft"
    FINETUNE = "finetune"


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The one question of a label config that Fitloop answers: which of `labels` a text has."""

    from_name: str
    to_name: str
    text_value: str
    """The Text tag's value as written: `$body`, `$a.b`, or a sentence with several `$names`."""
    labels: tuple[str, ...]
    """As they stand in annotations: a choice's alias where it has one."""
    paths: tuple[tuple[str, ...], ...] | None = None
    """With `allowNested`, each label's path from the root, because results are then paths; else None."""
    note: str = ""
    """Which Choices was taken and which were passed over: a sentence for the log and the status."""


@dataclass(frozen=True, slots=True)
class Project:
    """project.json: what Label Studio's API last said. `key` is id and creation time (DESIGN §3)."""

    key: str
    id: int
    title: str
    label_config: str
    label_config_hash: str
    created_at: str
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a run may be told; None means: by rule from the data's size (DESIGN-learning §3)."""

    method: Method = Method.AUTO
    base_model: str = "bert-base-multilingual-cased"
    model_name: str | None = None
    """Stem of version names and the backend's title; None: the project's slug."""
    learning_rate: float | None = None
    num_train_epochs: float | None = None
    weight_decay: float | None = None
    budget_seconds: float = 60.0
    max_length: int = 256
    """Tokens of a text that are read; the rest is cut off."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RunRequest:
    """runs/<run>/request.json: written by the leader before anything is launched."""

    run: str
    project_key: str
    project_id: int
    cause: str
    parameters: Parameters
    created_at: float
    commands: tuple[str, ...] = ()
    """Ids of the inbox commands that this run answers, so that a crash cannot answer one twice."""
    fingerprint: str = ""
    """Of the labels, label config and parameters at launch: a run that failed is not repeated on the same ones."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Snapshot:
    """runs/<run>/snapshot.json: the labels that the run read; the trigger counts from here."""

    tasks: dict[str, str]
    """Task id to the signature of its annotations (`core.labels.signature`)."""
    label_config_hash: str
    labels: tuple[str, ...]
    taken_at: float
    format: int = FORMAT


class RunState(StrEnum):
    """Where a run stands; the last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Published:
    """A version that a run has published, and what the gate said of it."""

    version: str
    promote: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class RunStatus:
    """runs/<run>/status.json: written by the run alone, at least every 2 s."""

    run: str
    state: RunState
    stage: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    texts_per_second: float | None = None
    seconds_left: float | None = None
    message: str = ""
    """The one sentence for people: what happened, and what to do."""
    published: tuple[Published, ...] = ()
    exit_code: int | None = None
    attempt: int = 1
    updated_at: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage so far."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Attempt:
    """One process that worked on a run."""

    number: int
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """runs/<run>/launch.json: written by the leader alone."""

    run: str
    attempts: tuple[Attempt, ...] = ()
    outcome: RunState | None = None
    """DONE, FAILED or CANCELLED once nothing more will be tried."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Estimate:
    """How often a version is right, out of sample: an estimate, usually low (DESIGN-learning §2)."""

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
    """Promote or hold, and why in sentences (DESIGN-learning §4)."""

    promote: bool
    kind: str
    """Bounded for metrics: first, labels-changed, not-worse, better, worse, label-worse, not-better, too-few."""
    reasons: tuple[str, ...]
    compared_with: str | None = None
    pairs: int = 0
    fixed: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a version: lower-case hex sha256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """From which labels, settings and code a version was made."""

    run: str
    annotation_ids: tuple[int, ...]
    annotations_hash: str
    label_config_hash: str
    base_model: str
    base_digest: str
    code_version: str
    parameters: Parameters
    parent: str | None
    texts: int
    """Texts that it was trained on."""
    trained_on_everything: bool
    """False: the holdout was kept out of what is served."""
    resumed_from: str | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """How a version is to be loaded: the fp32 model of record's layout, and the engine that serves it."""

    layout: str
    """`sequence-classification` (transformers) or `sentence-transformers` (DESIGN-learning §7)."""
    engine: str
    """`ct2-int8` (in the folder `ct2/`) or `torch-fp32`."""
    engine_reason: str
    max_length: int
    temperature: float
    """Divides the logits; 1.0 where it is folded into the last layer."""


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
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class OutOfSample:
    """oos.json: out-of-sample answers by text key, which versions are compared by; it holds no text."""

    labels: tuple[str, ...]
    source: str
    answers: dict[str, tuple[float, ...]]
    """Text key to one probability a label, calibrated."""
    trained_keys: tuple[str, ...] = ()
    """Every key of this version's lineage: it may not be judged afresh on these."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Served:
    """What one project serves."""

    current: str | None = None
    previous: str | None = None
    target: str | None = None
    since: float = 0.0
    why: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """serving.json: the one object that changes, and the leader alone writes it."""

    term: int = 0
    generation: int = 0
    projects: dict[str, Served] = field(default_factory=dict)
    format: int = FORMAT


class Action(StrEnum):
    """What a person may ask of a project."""

    TRAIN = "train"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    UNPIN = "unpin"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Command:
    """inbox/cmd-<id>.json: stored before it is answered, carried out by the leader."""

    id: str
    project_id: int
    action: Action
    version: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    """For TRAIN: overrides of Parameters, checked when the run is made."""
    created_at: float = 0.0
    format: int = FORMAT
