"""Label Studio's labels of one project, read cheaply and kept in memory.

Each look asks for the project and its counts. Only when these changed are tasks read, those changed since the newest
change known; what is then known must add up to the counts again, or everything is read (a task was deleted, or this
process has just started). Trouble is retried with back-off and told in one sentence; what was read stays.
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
from services.adapter.training import monitoring
from services.adapter.training.monitoring import agreement_of
from services.core.domain import LabelSpace, Project, Uncounted
from services.core.errors import FitloopError, LabelStudioNotFound, NoLabelSpace
from services.core.labels import is_usable, parse_label_space, signature
from services.core.labels.annotations import parse_timestamp, resolve
from services.core.labels.uncounted import Cause, summarise
from services.core.labelstudio import Counts

log = structlog.get_logger()
_SLOW_SECONDS: Final = 1.0
"""A try that takes longer holds the other projects up."""
_COMMIT_DELAY: Final = timedelta(seconds=60)
"""A change bears the time at which its request began, and shows once that is stored: others may have overtaken it."""
_MAX_CAUSES: Final = 1000
"""Different causes that are held in memory for a project; beyond them examples are left out."""
_AGREEMENT_SECONDS: Final = 60.0
"""Between two comparisons of labels with suggestions: a request beside those of a look."""


class LabelSource(Protocol):
    """The part of LabelStudio that a watch reads."""

    def project(self, project_id: int) -> tuple[Project, Counts]:
        """The project and what is counted in it."""
        ...

    def annotated_tasks(self, project_id: int, since: str | None = None) -> Iterator[dict[str, Any]]:
        """Tasks with annotations, or all that changed since."""
        ...

    def suggested_tasks(self, project_id: int, most: int) -> list[dict[str, Any]]:
        """The annotated tasks that changed last, with the predictions that are stored for them."""
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
    """Whether Label Studio counts the task as annotated: it passes over ground truth."""
    changed_at: float = 0.0
    """When the last of them was made or edited."""
    causes: Causes = ()
    """Why annotations of it do not count; one object for all tasks of which the same holds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A project as Label Studio last said."""

    project: Project
    space: LabelSpace | None
    why_no_space: str
    tasks: Mapping[int, str]
    """Task id to the signature of its annotations, for tasks that say anything."""
    counts: Mapping[str, int]
    """Examples of each label of the space."""
    read_at: float
    task_number: int = 0
    """All tasks, labelled or not."""
    changed_at: Mapping[int, float] = field(default_factory=dict)
    """Task id to the time of its last label."""
    agreement: Agreement | None = None
    """With suggestions, as it was last looked at."""
    not_counted: tuple[Uncounted, ...] = ()
    """Annotations that do not count, by reason."""

    @property
    def labelled(self) -> int:
        """Tasks with a usable label."""
        return sum(self.counts.values())


@dataclass(slots=True)
class Backoff:
    """Seconds until the next try, doubling with each failure in a row."""

    first: float = 1.0
    most: float = 60.0
    until: float = 0.0
    _delay: float = 0.0

    def failed(self, now: float, took: float = 0.0) -> float:
        """Wait longer than last time, and than the try `took`, which began at `now`: others wait for it. The seconds."""
        self._delay = min(self._delay * 2 or self.first, self.most)
        delay = max(self._delay, took)
        self.until = now + took + delay
        return delay

    def worked(self) -> None:
        """Begin anew."""
        self.until = self._delay = 0.0


@dataclass(slots=True)
class LabelReader:
    """Looks at one project of Label Studio."""

    source: LabelSource
    project_id: int
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    problem: str = ""
    """Why the last look failed; "" after one that worked."""
    _was_missing: bool = False
    _counts: Counts | None = None
    _read_for: tuple[str, str | None] = ("", None)
    """The label config's hash, and the control that settings name."""
    _known: dict[int, LabelledTask] = field(default_factory=dict)
    _causes: dict[Causes, Causes] = field(default_factory=dict)
    _agreement: Agreement | None = None
    _agreement_due: bool = True
    _agreement_at: float = float("-inf")

    def poll(self, now: float, control: str | None = None) -> Reading | None:
        """Read what changed; None where Label Studio is in trouble. Raises Missing for a project that it twice said to have no more."""
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
            self.problem = str(error)
            log.warning("poll_failed", project=self.project_id, reason=str(error), retry_seconds=delay)
            return None
        self.backoff.worked()
        self.problem, self._was_missing = "", False
        return reading

    def _read(self, now: float, control: str | None) -> Reading:
        project, counts = self.source.project(self.project_id)
        space, why_not = label_space_of(project, control)
        asked = (project.label_config_hash, control)
        if asked != self._read_for:
            self._agreement, self._agreement_at = None, float("-inf")
            self._reset()  # the same annotation may mean another label now
        if counts != self._counts:
            self._merge(space, counts)
            self._agreement_due = True
        self._update_agreement(space, now)
        self._counts, self._read_for = counts, asked
        tasks = {task: known.signature for task, known in self._known.items() if known.signature}
        changed_at = {task: known.changed_at for task, known in self._known.items() if known.signature}
        return Reading(
            project,
            space,
            why_not,
            tasks,
            self._examples(space),
            now,
            counts.tasks,
            changed_at,
            self._agreement,
            self._not_counted(space, counts.skipped),
        )

    def _update_agreement(self, space: LabelSpace | None, now: float) -> None:
        """Labels with suggestions, now and then where labels changed; no look fails for the want of this figure."""
        if space is None or not self._agreement_due or now < self._agreement_at + _AGREEMENT_SECONDS:
            return
        try:
            self._agreement = agreement_of(
                space, self.source.suggested_tasks(self.project_id, monitoring.MAX_ANNOTATIONS)
            )
        except FitloopError as error:
            self._agreement_at = now
            log.warning("agreement_not_read", project=self.project_id, reason=str(error))
            return
        self._agreement_due = False
        if self._agreement.annotations:  # the first label with a suggestion need not wait
            self._agreement_at = now

    def _merge(self, space: LabelSpace | None, counts: Counts) -> None:
        if self._known and self._counts:
            since = _with_margin(self._counts.newest_change)
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
        """Everything is read again in full."""
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
        """The one object for causes that are equal; without examples once there are many."""
        if causes not in self._causes and len(self._causes) >= _MAX_CAUSES:
            causes = tuple((Cause(cause.reason), count) for cause, count in causes)
        return self._causes.setdefault(causes, causes)

    def _not_counted(self, space: LabelSpace | None, skipped: int) -> tuple[Uncounted, ...]:
        """Label Studio counts the skipped ones itself: of a task with no other annotation it does not send them."""
        if space is None:
            return ()
        found = Counter({Cause("cancelled"): skipped})
        for causes, tasks in Counter(known.causes for known in self._known.values()).items():
            for cause, count in causes:
                found[cause] += count * tasks
        return summarise(found, space)

    def _examples(self, space: LabelSpace | None) -> dict[str, int]:
        found = Counter(known.label for known in self._known.values())
        return {label: found[label] for label in space.labels} if space else {}


def label_space_of(project: Project, control: str | None) -> tuple[LabelSpace | None, str]:
    """What its label config asks, by the control that settings name; or why that cannot be predicted."""
    try:
        return parse_label_space(project.label_config, control), ""
    except NoLabelSpace as error:
        return None, str(error)


def _with_margin(stamp: str) -> str | None:
    """An ISO 8601 time, earlier by what a change may come late; None for none."""
    if not stamp:
        return None
    return f"{(datetime.fromisoformat(stamp) - _COMMIT_DELAY).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
