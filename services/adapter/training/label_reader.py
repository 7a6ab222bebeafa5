"""Polls Label Studio for the labels of one project, cheaply, and keeps them in memory.

Each poll reads the project and its counts. Only when these changed are tasks read: those changed since the newest known change;
the result must match the counts, or everything is read (a task was deleted, or this process has just started). Errors are
retried with back-off and reported in one message; what was read stays.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from services.adapter.state.board import Agreement
from services.adapter.training.monitoring import MAX_ANNOTATIONS, AgreementMonitor
from services.core.domain import Counts, LabelSpace, Project, Uncounted
from services.core.errors import (
    FitloopError,
    LabelStudioNotFound,
    LabelStudioUnreachable,
    NoLabelSpace,
)
from services.core.labels import is_usable, parse_label_space, signature
from services.core.labels.annotations import parse_timestamp, resolve
from services.core.labels.uncounted import Cause, summarise
from services.core.retry import Backoff

log = structlog.get_logger()
_SLOW_SECONDS: Final = 1.0
"""A slower poll delays the other projects."""
_COMMIT_DELAY: Final = timedelta(seconds=60)
"""A change has the time at which its request began, and is visible once committed: later ones may be visible before it."""
_MAX_CAUSES: Final = 1000
"""Limit of different causes in memory for a project; beyond it examples are omitted."""


class LabelSource(Protocol):
    """The part of LabelStudio that a label reader uses."""

    def project(self, project_id: int) -> tuple[Project, Counts]:
        """Return the project and its counts."""
        ...

    def annotated_tasks(self, project_id: int, since: str | None = None) -> Iterator[dict[str, Any]]:
        """Return the tasks with annotations, or all that changed since."""
        ...

    def suggested_tasks(self, project_id: int, most: int) -> list[dict[str, Any]]:
        """Return the annotated tasks changed last, with their stored predictions."""
        ...


Causes = tuple[tuple[Cause, int], ...]


@dataclass(frozen=True, slots=True)
class LabelledTask:
    """What is kept of a task with annotations."""

    signature: str | None
    label: str | None
    annotations: int
    """Not cancelled, as Label Studio counts them."""
    counted: bool
    """Whether Label Studio counts the task as annotated: it ignores ground truth."""
    changed_at: float = 0.0
    """When the last of them was made or edited."""
    causes: Causes = ()
    """Why annotations of it do not count; tasks with equal causes share one object."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A project as it was last polled."""

    project: Project
    space: LabelSpace | None
    why_no_space: str
    tasks: Mapping[int, str]
    """Task id to the signature of its annotations, for tasks with a usable one."""
    counts: Mapping[str, int]
    """Examples of each label of the space."""
    read_at: float
    task_number: int = 0
    """All tasks, labelled or not."""
    changed_at: Mapping[int, float] = field(default_factory=dict)
    """Task id to the time of its last label."""
    agreement: Agreement | None = None
    """Of labels with suggestions, when it was last computed."""
    not_counted: tuple[Uncounted, ...] = ()
    """Annotations that do not count, by reason."""

    @property
    def labelled(self) -> int:
        """Tasks with a usable label."""
        return sum(self.counts.values())


@dataclass(slots=True)
class LabelReader:
    """Polls one project of Label Studio."""

    source: LabelSource
    project_id: int
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    problem: str = ""
    """Why the last poll failed; "" after one that worked."""
    is_unreachable: bool = False
    """Whether it failed because Label Studio did not answer."""
    _was_missing: bool = False
    _counts: Counts | None = None
    _read_for: tuple[str, str | None] = ("", None)
    """The label config's hash, and the control that settings name."""
    _known: dict[int, LabelledTask] = field(default_factory=dict)
    _causes: dict[Causes, Causes] = field(default_factory=dict)
    _agreement: AgreementMonitor = field(default_factory=AgreementMonitor)

    def poll(self, now: float, control: str | None = None) -> Reading | None:
        """Read what changed; return None if that failed. Raises LabelStudioNotFound for a project that was missing twice in a row."""
        if now < self.backoff.until:
            return None
        began = self.clock()
        try:
            reading = self._read(now, control)
        except FitloopError as error:
            missed, self._was_missing = self._was_missing, isinstance(error, LabelStudioNotFound)
            if missed and self._was_missing:
                raise
            self._reset()
            took = self.clock() - began
            delay = self.backoff.failed(now, took if took > _SLOW_SECONDS else 0.0)
            self.problem, self.is_unreachable = str(error), isinstance(error, LabelStudioUnreachable)
            log.warning("poll_failed", project=self.project_id, reason=str(error), retry_seconds=delay)
            return None
        self.backoff.succeeded()
        self.problem, self.is_unreachable, self._was_missing = "", False, False
        return reading

    def _read(self, now: float, control: str | None) -> Reading:
        project, counts = self.source.project(self.project_id)
        space, no_space_reason = label_space_of(project, control)
        read_for = (project.label_config_hash, control)
        if read_for != self._read_for:
            self._agreement.reset()
            self._reset()  # the same annotation may mean another label now
        if counts != self._counts:
            self._merge(space, counts)
            self._agreement.due = True
        if space and self._agreement.is_due(now):
            self._update_agreement(space, now)
        self._counts, self._read_for = counts, read_for
        tasks = {task: known.signature for task, known in self._known.items() if known.signature}
        examples = Counter(known.label for known in self._known.values())
        changed_at = {task: known.changed_at for task, known in self._known.items() if known.signature}
        return Reading(
            project,
            space,
            no_space_reason,
            tasks,
            {label: examples[label] for label in space.labels} if space else {},
            now,
            counts.tasks,
            changed_at,
            self._agreement.value,
            self._not_counted(space, counts.skipped),
        )

    def _update_agreement(self, space: LabelSpace, now: float) -> None:
        """Compare labels with suggestions; an error here does not fail the poll."""
        try:
            self._agreement.update(space, self.source.suggested_tasks(self.project_id, MAX_ANNOTATIONS), now)
        except FitloopError as error:
            self._agreement.compared_at = now
            log.warning("agreement_not_read", project=self.project_id, reason=str(error))

    def _merge(self, space: LabelSpace | None, counts: Counts) -> None:
        if self._known and self._counts:
            since = _before_commit_delay(self._counts.newest_change)
            self._store(space, self.source.annotated_tasks(self.project_id, since))
        if not self._matches(counts):
            self._reset()
            self._store(space, self.source.annotated_tasks(self.project_id))

    def _store(self, space: LabelSpace | None, tasks: Iterable[Mapping[str, Any]]) -> None:
        for task in tasks:
            annotations = task.get("annotations") or []
            if annotations:
                self._known[int(task["id"])] = self._labelled_task(space, annotations)
            else:
                self._known.pop(int(task["id"]), None)

    def _matches(self, counts: Counts) -> bool:
        tasks = sum(known.counted for known in self._known.values())
        annotations = sum(known.annotations for known in self._known.values())
        return (tasks, annotations) == (counts.annotated_tasks, counts.annotations)

    def _reset(self) -> None:
        """Read everything again at the next poll."""
        self._counts, self._known, self._causes = None, {}, {}

    def _labelled_task(self, space: LabelSpace | None, annotations: list[dict[str, Any]]) -> LabelledTask:
        kept = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
        usable = [annotation for annotation in kept if is_usable(annotation)]
        resolved = resolve(space, kept) if space else None
        return LabelledTask(
            signature=signature(annotations),
            label=resolved.label if resolved else None,
            annotations=len(kept),
            counted=any(not annotation.get("ground_truth") for annotation in kept),
            changed_at=max(
                (parse_timestamp(annotation.get("updated_at")) for annotation in usable), default=0.0
            ),
            causes=self._interned(tuple(sorted(resolved.causes.items()))) if resolved else (),
        )

    def _interned(self, causes: Causes) -> Causes:
        """Return the shared object for equal causes; without examples once there are many."""
        if causes not in self._causes and len(self._causes) >= _MAX_CAUSES:
            causes = tuple((Cause(cause.reason), count) for cause, count in causes)
        return self._causes.setdefault(causes, causes)

    def _not_counted(self, space: LabelSpace | None, skipped: int) -> tuple[Uncounted, ...]:
        """Summarise the uncounted annotations. Skipped ones are counted by Label Studio, which does not always send them."""
        if space is None:
            return ()
        found = Counter({Cause("cancelled"): skipped})
        for causes, tasks in Counter(known.causes for known in self._known.values()).items():
            for cause, count in causes:
                found[cause] += count * tasks
        return summarise(found, space)


def label_space_of(project: Project, control: str | None) -> tuple[LabelSpace | None, str]:
    """Return the label space of the project's label config, for the control that settings name; or why there is none."""
    try:
        return parse_label_space(project.label_config, control), ""
    except NoLabelSpace as error:
        return None, str(error)


def _before_commit_delay(stamp: str) -> str | None:
    """Return an ISO 8601 time earlier by the commit delay; None for none."""
    if not stamp:
        return None
    return f"{(datetime.fromisoformat(stamp) - _COMMIT_DELAY).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
