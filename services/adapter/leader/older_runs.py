"""The older runs of projects whose history a leader of an earlier release has kept: read once all projects are decided on.

A takeover reads the newest runs of such a project, which decisions depend on. The others are shown to people, and expire; there
may be tens of thousands of them, so workers read a few projects at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from services.adapter.leader.workers import Finished, Workers
from services.adapter.serving.versions import ProjectVersions
from services.adapter.state.documents import ProjectDocuments, VersionOutcome
from services.adapter.state.project_state import RunRecord
from services.adapter.training.runs import RunHistory, read_run
from services.core.redaction import safe_reason
from services.core.runs import Runs
from services.core.store import ObjectStore

log = structlog.get_logger()
_AT_ONCE: Final = 2
"""Projects that workers read at a time: most workers stay free for what people wait for."""


@dataclass(frozen=True, slots=True)
class OlderHistory:
    """Runs of one project, and the outcomes of the versions that they have published."""

    project_key: str
    records: tuple[RunRecord, ...]
    outcomes: tuple[VersionOutcome, ...]

    def add_to(self, history: RunHistory, versions: ProjectVersions) -> None:
        """Add them to what is known of the project. Raises StoreError."""
        history.add_older(self.records)
        versions.add_older(self.outcomes)


@dataclass(slots=True)
class OlderRuns:
    """The runs that are still to be read. Only the leader's thread may call it."""

    store: ObjectStore
    workers: Workers
    on_read: Callable[[OlderHistory], None]
    _waiting: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names by project key."""
    _in_flight: int = 0

    def add(self, project_key: str, runs: tuple[str, ...]) -> None:
        """Have these runs read later."""
        if runs:
            self._waiting[project_key] = runs

    def step(self) -> None:
        """Give workers the next projects."""
        while self._waiting and self._in_flight < _AT_ONCE:
            key = next(iter(self._waiting))
            work = partial(read_history, self.store, key, self._waiting.pop(key))
            self._in_flight += self.workers.submit(("older runs", key), work, partial(self._done, key))

    def _done(self, project_key: str, finished: Finished[OlderHistory]) -> None:
        self._in_flight -= 1
        if finished.error is None:
            self.on_read(finished.result())
        else:  # state.json lacks them, so the next leader reads them
            log.warning("older_runs_not_read", key=project_key, reason=safe_reason(finished.error))


def read_history(store: ObjectStore, project_key: str, names: Sequence[str]) -> OlderHistory:
    """Read these runs and the outcomes of their versions. Raises StoreError."""
    runs, documents = Runs(store), ProjectDocuments(store, project_key)
    records = [record for name in names if (record := read_run(runs, name, project_key))]
    published = (one for record in records if record.status for one in record.status.published)
    outcomes = (documents.outcome(one.version) for one in published)
    return OlderHistory(project_key, tuple(records), tuple(filter(None, outcomes)))
