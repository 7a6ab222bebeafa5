"""The labels of an earlier run, and what changed since: pure but for reading them, once for each run.

A run's request names the state of the label index that it trains on. Runs of release 0.1.0 wrote snapshot.json instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from services.core.domain import LabelSpace, LabelState
from services.core.errors import CorruptLabels
from services.core.labels.index import NOTHING, Baseline, LabelIndex, changed
from services.core.labels.segments import LabelStore
from services.core.runs import Runs
from services.core.store import ObjectStore

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """A run that changes may be counted from."""

    run: str
    labels: LabelState | None = None
    """What it trained on; None for a run of release 0.1.0, which may have written a snapshot."""


@dataclass(frozen=True, eq=False, slots=True)
class BaselineLabels:
    """The labels of a run."""

    run: str
    tasks: Baseline
    digest: str
    labels: tuple[str, ...]
    from_name: str
    """The control that it learnt; "" if that is not known."""
    label_config_hash: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The labels now, compared with those of the last run that counts."""

    changed: int
    """Labelled tasks added, edited or removed since; all labelled ones without such a run."""
    oldest_change: float | None = None
    """When the oldest of the changed labels was made; None if none changed, or only removed ones did."""
    lost_labels: tuple[str, ...] = ()
    """Labels of that run that are no longer in the label config."""
    switched_control: str = ""
    """"the trained control changed from 'mood' to 'topic'"; "" if it did not."""


def compare(
    index: LabelIndex, space: LabelSpace | None, control: str | None, baseline: BaselineLabels | None
) -> Comparison:
    """Compare the labels with a baseline. `control`: the one that is to be learnt."""
    switched = _switched_control(control, baseline)
    known = None if switched else baseline  # every label is new to a model of another control
    changes = changed(index, known.tasks if known else NOTHING)
    lost = [label for label in known.labels if label not in space.labels] if known and space else []
    return Comparison(changes.tasks, changes.oldest, tuple(lost), switched)


def _switched_control(control: str | None, baseline: BaselineLabels | None) -> str:
    before = baseline.from_name if baseline else ""
    if control and before not in {"", control}:
        return f"the trained control changed from {before!r} to {control!r}"
    return ""


@dataclass(slots=True)
class BaselineReader:
    """Reads the labels of runs from the store; keeps those of the last one."""

    store: ObjectStore
    _last: BaselineLabels | None = None
    _without: set[str] = field(default_factory=set)
    """Runs whose labels cannot be read, or that read none."""

    def find(self, project_key: str, runs: Sequence[BaselineRun]) -> BaselineLabels | None:
        """Return the labels of the first of these runs that has any; None: there is none. Raises StoreError."""
        for run in runs:
            if self._last and self._last.run == run.run:
                return self._last
            if run.run in self._without:
                continue
            if found := self._read(project_key, run):
                self._last = found
                return found
            self._without.add(run.run)
        self._last = None
        return None

    def _read(self, project_key: str, run: BaselineRun) -> BaselineLabels | None:
        if run.labels is None:
            return self._read_snapshot(run.run)
        try:
            tasks = Baseline.of(LabelStore(self.store, project_key).load(run.labels))
        except CorruptLabels as error:
            log.warning("baseline_unreadable", run=run.run, reason=str(error))
            return None
        space = run.labels.space
        labels, name = (space.labels, space.from_name) if space else ((), "")
        return BaselineLabels(run.run, tasks, run.labels.digest, labels, name, run.labels.label_config_hash)

    def _read_snapshot(self, run: str) -> BaselineLabels | None:
        snapshot = Runs(self.store).snapshot(run)
        if snapshot is None:
            return None
        tasks = Baseline.of_snapshot(snapshot)
        return BaselineLabels(
            run, tasks, tasks.digest, snapshot.labels, snapshot.from_name, snapshot.label_config_hash
        )
