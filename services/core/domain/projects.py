"""Projects, commands and runs. Requests, statuses and launches are files of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from services.core.documents import FORMAT, Extensible
from services.core.domain.labels import LabelState
from services.core.domain.pools import NamesResult, PoolState

_SEPARATOR: Final = ", "
"""Between the names of those who asked for one command."""
_MAX_REQUESTERS: Final = 5
TRAIN: Final = "train"
EMBED: Final = "embed"


class Method(StrEnum):
    """How a model is trained."""

    AUTO = "auto"
    LINEAR_PROBE = "linear-probe"
    LP_FT = "lp-ft"
    FINETUNE = "finetune"
    ZERO_SHOT = "zero-shot"
    """From label names and unlabelled texts alone, before there are labels; made by runs of kind `embed`."""
    LABEL_STUDIO_ML = "label-studio-ml"
    """By `fit` of a class of the operator's, a subclass of `LabelStudioMLBase`: `Parameters.model`."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a run; None means: chosen by rule from the number of texts."""

    method: Method = Method.AUTO
    base_model: str = "bert-base-multilingual-cased"
    model_name: str | None = None
    """Stem of version names and the backend's title; None: the project's slug."""
    learning_rate: float | None = None
    num_train_epochs: float | None = None
    weight_decay: float | None = None
    budget_seconds: float = 60.0
    max_length: int = 256
    """Tokens read of each text; the rest is truncated."""
    seed: int = 0
    control: str | None = None
    """The control of the label config to learn, or several separated by commas, of which the first usable one is learnt; in
    a request, the chosen one. None: by the order of the label config."""
    model: str | None = None
    """`package.module:Class`, for the method `label-studio-ml` alone."""

    @property
    def is_own_model(self) -> bool:
        """Whether a class of the operator's trains and predicts."""
        return self.method is Method.LABEL_STUDIO_ML


@dataclass(frozen=True, slots=True)
class RunRequest(Extensible):
    """runs/<run>/request.json: written by the leader before anything is launched."""

    run: str
    project_key: str
    project_id: int
    cause: str
    parameters: Parameters
    created_at: float
    commands: tuple[str, ...] = ()
    """Ids of the commands that this run executes, so that a crash cannot execute one twice."""
    asked: dict[str, str] = field(default_factory=dict)
    """Parameters given with those commands; empty for a run that was triggered by labels or by the button."""
    fingerprint: str = ""
    """Hash of labels, label config and parameters: a run that failed is not repeated on the same ones."""
    term: int = 0
    """The leader's term; 0 from an earlier release."""
    traceparent: str = ""
    """The trace of the request; "" while traces are off."""
    asked_by: tuple[str, ...] = ()
    """Who gave those commands, each once; empty for a run triggered by labels, or from an earlier release."""
    labels: LabelState | None = None
    """What the run trains on; None for a run of kind `embed`, and from an earlier release, whose runs read Label Studio and wrote
    snapshot.json."""
    kind: str = TRAIN
    """`train`, or `embed`: the run computes features of the pool's texts for `parameters.budget_seconds`."""
    label_names: str = ""
    """Fingerprint of the label names that a run of kind `embed` is to make a version from; "": it publishes nothing."""
    format: int = FORMAT


class RunState(StrEnum):
    """State of a run; the last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Pending(StrEnum):
    """What a run waits for; a closed list, for metrics."""

    NO_GPU = "no_gpu"
    NO_NODE = "no_node"
    SUSPENDED = "suspended"
    QUOTA = "quota"
    IMAGE = "image"
    TURN = "turn"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Published(Extensible):
    """A version that a run published, and its gate decision."""

    version: str
    promote: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class RunStatus(Extensible):
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
    """For people: what happened, and what to do."""
    published: tuple[Published, ...] = ()
    exit_code: int | None = None
    attempt: int = 1
    updated_at: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage so far."""
    resident_bytes: int | None = None
    """Memory of the run's process; this and the next three are None if the machine does not report them."""
    gpu_memory_bytes: int | None = None
    """GPU memory in use by any process."""
    gpu_memory_limit_bytes: int | None = None
    """Memory of the GPU, or of the run's slice of one."""
    gpu_utilization: float | None = None
    """Share of recent time in which the GPU was busy, 0 to 1."""
    pool: PoolState | None = None
    """None from an earlier release, and until the pool was read."""
    names: NamesResult | None = None
    """None of a run that was not asked for a version from label names, and before it has come to that."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Attempt(Extensible):
    """One process of a run."""

    number: int
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class LaunchState(Extensible):
    """runs/<run>/launch.json: written by the leader alone."""

    run: str
    attempts: tuple[Attempt, ...] = ()
    outcome: RunState | None = None
    """DONE, FAILED or CANCELLED once there are no more attempts."""
    waiting: str = ""
    """Why no process works on it yet, as a phrase: "no node has a free nvidia.com/gpu"."""
    pending: str = ""
    """The same for metrics: a value of Pending; "" while a process works on it."""
    reason: str = ""
    """Details of a failure beyond the run's own message, for people."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Project(Extensible):
    """project.json: what Label Studio's API last returned. `key` is id and creation time."""

    key: str
    id: int
    title: str
    label_config: str
    label_config_hash: str
    created_at: str
    format: int = FORMAT


class Action(StrEnum):
    """Commands that a person can give for a project; GC for all of them as well, with `project_id` 0."""

    TRAIN = "train"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    UNPIN = "unpin"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    GC = "gc"
    """Delete old versions and runs, and what killed processes left."""


@dataclass(frozen=True, slots=True)
class Command(Extensible):
    """inbox/cmd-<id>.json: stored before the request is answered, executed by the leader."""

    id: str
    project_id: int
    action: Action
    version: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    """For TRAIN: overrides of Parameters, checked when the run is requested. For GC: `dry_run` if nothing is to be deleted."""
    created_at: float = 0.0
    traceparent: str = ""
    """The trace of the request; "" while traces are off."""
    asked_by: str = ""
    """User name and address, as "anna from 10.0.0.7"; "" from an earlier release.

    Of several people who asked for the same, the last ones, oldest first: "ben from 10.0.0.8, anna from 10.0.0.7".
    """
    format: int = FORMAT

    @property
    def is_plain_train(self) -> bool:
        """Whether it asks for a run without parameters of its own: any number of these is one request."""
        return self.action is Action.TRAIN and not self.parameters and self.version is None

    def superseding(self, older: Command) -> Command:
        """Return this command with the names of those who asked for the older one as well."""
        names = [*_requesters(older.asked_by), *_requesters(self.asked_by)]
        latest = list(dict.fromkeys(reversed(names)))[:_MAX_REQUESTERS]
        return replace(self, asked_by=_SEPARATOR.join(reversed(latest)))


def _requesters(asked_by: str) -> list[str]:
    return [name for name in asked_by.split(_SEPARATOR) if name]
