"""state.json of a project: what the leader must know of its runs and versions to continue, in one small object.

Only the leader's thread writes it. A new run is in it before its request.json exists, so that a leader that dies in between
loses no run and a next one names none twice. Runs of a leader of an earlier release are missing from it, and added when it is
loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.adapter.state.documents import VersionOutcome
from services.core import documents
from services.core.documents import FORMAT, Extensible
from services.core.domain import TRAIN, LaunchState, NamesResult, PoolState, RunRequest, RunState, RunStatus
from services.core.errors import NotFound
from services.core.store import ObjectStore


@dataclass(frozen=True, slots=True)
class RunRecord(Extensible):
    """One run."""

    request: RunRequest
    launch: LaunchState | None = None
    status: RunStatus | None = None
    stale: bool = False
    read_fingerprint: str = ""
    """Fingerprint of the labels that it read, if its request does not say: of its snapshot, in release 0.1.0."""

    @property
    def run(self) -> str:
        return self.request.run

    @property
    def outcome(self) -> RunState | None:
        """DONE, FAILED or CANCELLED; None while it is active."""
        return self.launch.outcome if self.launch else None

    @property
    def waiting_reason(self) -> str:
        """Why no process works on it yet; "" while one does, and once it has ended."""
        return self.launch.waiting if self.launch and self.outcome is None else ""

    @property
    def exit_code(self) -> int | None:
        """The exit code of its last process."""
        return self.launch.attempts[-1].exit_code if self.launch and self.launch.attempts else None

    @property
    def ended_at(self) -> float:
        """When its last process ended."""
        last = self.launch.attempts[-1] if self.launch and self.launch.attempts else None
        return (last.ended_at if last else None) or self.request.created_at

    @property
    def started_at(self) -> float | None:
        """When its first process started; None before."""
        return self.launch.attempts[0].started_at if self.launch and self.launch.attempts else None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of what it was made of."""
        return self.read_fingerprint or self.request.fingerprint

    @property
    def can_be_baseline(self) -> bool:
        """Whether changes are counted from its labels: it was done, cancelled while it ran, or failed after publishing a version."""
        if self.request.kind != TRAIN:
            return False
        if self.outcome is RunState.CANCELLED:
            return self.started_at is not None and self.status is not None
        has_version = bool(self.status and self.status.published)
        return self.outcome is RunState.DONE or (self.outcome is RunState.FAILED and has_version)

    def for_state(self, *, is_baseline: bool) -> RunRecord:
        """Return what state.json keeps: of an active run only the request, because the rest has files of its own.

        Of an ended one, labels that no change will be counted from are left out.
        """
        if self.outcome is None:
            return RunRecord(self.request)
        if is_baseline:
            return self
        return replace(self, request=replace(self.request, labels=None), read_fingerprint=self.fingerprint)


@dataclass(frozen=True, slots=True)
class EncoderReferences(Extensible):
    """Which encoders a project's versions name."""

    read_at: float
    """When the reading of their manifests began."""
    versions: dict[str, str] = field(default_factory=dict)
    """The digest of each version that is a head."""
    unreadable: tuple[str, ...] = ()
    """Versions whose manifests could not be read, so that it is not known which encoder they need."""


@dataclass(frozen=True, slots=True)
class NamesRun(Extensible):
    """The last run of kind `embed` that was asked for a version from label names."""

    record: RunRecord
    """Its request, and of its status the version."""
    result: NamesResult


@dataclass(frozen=True, slots=True)
class EmbedState(Extensible):
    """The runs of kind `embed`, and what runs of both kinds have left of the pool."""

    last: RunRecord | None = None
    """The last one, active or ended; the earlier ones are deleted."""
    number: int = 0
    """Of the last one."""
    tasks: int = 0
    """Label Studio's count of all tasks when it was requested."""
    failures: int = 0
    """Runs of this kind that failed since the last one that was done."""
    pool: PoolState | None = None
    """As the last run that read it has left it; None if none has."""
    pool_fingerprint: str = ""
    """`embed_trigger.fingerprint` of that run."""
    pool_is_of_embed: bool = False
    noted_run: str = ""
    """The last training run whose pool was taken over, if it had one."""
    names: NamesRun | None = None
    """None before the first such run."""


@dataclass(frozen=True, slots=True)
class ProjectState(Extensible):
    """projects/<key>/state.json."""

    runs: tuple[RunRecord, ...] = ()
    """The remembered runs, oldest first."""
    outcomes: tuple[VersionOutcome, ...] = ()
    """Of the versions that these runs have published."""
    last_run: int = 0
    """The highest number of any run."""
    swept_run: int = 0
    """The highest number of an ended run whose checkpoints were deleted."""
    encoders: EncoderReferences | None = None
    """As the last sweep has found them; None before one."""
    missing_since: float | None = None
    """Since when Label Studio has not had the project; None while it has."""
    disconnected_since: float | None = None
    """Since when none of the project's ML backends has our URL; None while one has, or if that is not known."""
    embed: EmbedState = field(default_factory=EmbedState)
    term: int = 0
    """The leader's term."""
    format: int = FORMAT


def with_names_run(records: Sequence[RunRecord], state: ProjectState) -> list[RunRecord]:
    """Return the runs that may have versions, oldest first: these, and the last that was asked for one from label names."""
    names = state.embed.names
    if names is None:
        return list(records)
    before = [run for run in records if run.request.created_at <= names.record.request.created_at]
    return [*before, names.record, *records[len(before) :]]


@dataclass(slots=True)
class ProjectStateFile:
    """The state of one project, in memory and in the bucket."""

    store: ObjectStore
    project_key: str
    term: Callable[[], int] = lambda: 0
    state: ProjectState = field(default_factory=ProjectState)

    def update(self, **changes: Any) -> None:
        """Change fields, and write the state if one differs. Raises StoreError, and then nothing has changed in memory."""
        changed = replace(self.state, **changes)
        if changed == self.state:
            return
        changed = replace(changed, term=self.term())
        self.store.write(_key(self.project_key), documents.dump(changed))
        self.state = changed


def read_project_state(store: ObjectStore, project_key: str) -> ProjectState | None:
    """Return the stored state; None if there is none. Raises StoreError, UnknownFormat."""
    key = _key(project_key)
    try:
        return documents.load(ProjectState, store.read(key), key)
    except NotFound:
        return None


def _key(project_key: str) -> str:
    return f"projects/{project_key}/state.json"
