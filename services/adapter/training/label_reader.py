"""Polls Label Studio for the labels of one project, cheaply, in a worker's thread.

A poll asks Label Studio for one row: how many tasks and annotations there are, and when one changed last. Only if that differs from
the last poll is the project read, and what changed in it; the project itself, whose label config may change, also at every tenth
poll and whenever the caller asks for it. Errors are retried with back-off and reported in one message; what was read stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.adapter.state.board import Agreement
from services.adapter.state.help import HelpMeasures
from services.adapter.training.baseline import (
    BaselineLabels,
    BaselineReader,
    BaselineRun,
    Comparison,
    compare,
)
from services.adapter.training.help_monitor import HelpMonitor
from services.adapter.training.index_updater import IndexUpdater, LabelSource
from services.adapter.training.monitoring import MAX_ANNOTATIONS, AgreementMonitor
from services.core.domain import LabelSpace, LabelState, Parameters, Project, Uncounted
from services.core.errors import FitloopError, LabelStudioNotFound, LabelStudioUnreachable, NoLabelSpace
from services.core.labels import parse_label_space
from services.core.labels.examples import examples_of
from services.core.labels.index import LabelIndex
from services.core.labels.trainable import NOTHING_LABELLED, untrainable_reason
from services.core.retry import Backoff
from services.core.store import ObjectStore

log = structlog.get_logger()
_SLOW_SECONDS: Final = 1.0
"""A slower poll delays the other projects."""
_QUIET_POLLS: Final = 9
"""Polls in a row that read nothing but the newest change."""


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """A project as it was last polled."""

    project: Project
    space: LabelSpace | None
    why_no_space: str
    index: LabelIndex
    state: LabelState
    """The stored state of the index: what a run would train on."""
    counts: Mapping[str, int]
    """Examples of each label of the space; tasks with the same text are one."""
    labelled: int
    """All examples: the sum of these counts, unless a text may have several labels."""
    not_counted: tuple[Uncounted, ...]
    """Annotations and tasks that do not count, by reason."""
    comparison: Comparison
    baseline: BaselineLabels | None
    """What it was compared with; None before the first run."""
    read_at: float
    agreement: Agreement | None = None
    """Of labels with suggestions, when it was last computed."""
    help: HelpMeasures | None = None
    """What suggestions do, when that was last measured."""
    is_unchanged: bool = False
    """Whether Label Studio had nothing new since the poll before."""

    def not_trainable(self, parameters: Parameters) -> str | None:
        """Return why a run with these parameters can make no model yet; None if it can.

        A class of the operator's reads any label config, so that one annotated task is enough.
        """
        if parameters.is_own_model:
            return None if self.state.labelled else NOTHING_LABELLED
        if self.space is None:
            return self.why_no_space or None
        texts = self.labelled if self.space.multiple else None
        return untrainable_reason(self.counts, self.not_counted, self.space.control, texts)

    def labelled_for(self, parameters: Parameters | None) -> int:
        """Return the examples of a run with these parameters: of a class of the operator's all annotated tasks."""
        return self.state.labelled if parameters and parameters.is_own_model else self.labelled

    @property
    def task_number(self) -> int:
        """All tasks, labelled or not."""
        return self.state.counts.tasks

    @property
    def digest(self) -> str:
        """Equal for equal labels."""
        return self.state.digest


@dataclass(frozen=True, slots=True)
class PollRequest:
    """What a poll needs to know of its project."""

    control: str | None = None
    """The control that settings name; None: none does."""
    baselines: tuple[BaselineRun, ...] = ()
    """Runs that changes may be counted from, the preferred one first."""
    in_use: tuple[LabelState, ...] = ()
    """The states of active runs, whose segments stay."""
    whole: bool = False
    """Whether to read the project even if no label changed: its label config may have."""


@dataclass(slots=True)
class LabelReader:
    """Polls one project of Label Studio. One thread at a time may use it."""

    source: LabelSource
    project_id: int
    store: ObjectStore
    help_monitor: HelpMonitor | None = None
    """None: of a project without blind texts."""
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    problem: str = ""
    """Why the last poll failed; "" after one that worked."""
    is_unreachable: bool = False
    """Whether it failed because Label Studio did not answer."""
    _was_missing: bool = False
    _newest: tuple[int, int, str] | None = None
    """What Label Studio answered before the last read of the project."""
    _control: str | None = None
    """That the last read of the project was for."""
    _quiet_polls: int = 0
    _last: Reading | None = None
    _agreement: AgreementMonitor = field(default_factory=AgreementMonitor)
    _help: HelpMonitor = field(init=False)
    _updater: IndexUpdater = field(init=False)
    _baselines: BaselineReader = field(init=False)

    def __post_init__(self) -> None:
        self._updater = IndexUpdater(self.source, self.store, self.project_id)
        self._baselines = BaselineReader(self.store)
        self._help = self.help_monitor or HelpMonitor(self.store)

    def poll(self, now: float, request: PollRequest = PollRequest()) -> Reading | None:  # frozen
        """Read what changed; return None if that failed. Raises LabelStudioNotFound for a project that was missing twice in a row."""
        if now < self.backoff.until:
            return None
        began = self.clock()
        try:
            reading = self._read(now, request)
        except FitloopError as error:
            missed, self._was_missing = self._was_missing, isinstance(error, LabelStudioNotFound)
            if missed and self._was_missing:
                raise
            self._newest = None
            took = self.clock() - began
            delay = self.backoff.failed(now, took if took > _SLOW_SECONDS else 0.0)
            self.problem, self.is_unreachable = str(error), isinstance(error, LabelStudioUnreachable)
            log.warning("poll_failed", project=self.project_id, reason=str(error), retry_seconds=delay)
            return None
        self.backoff.succeeded()
        self.problem, self.is_unreachable, self._was_missing = "", False, False
        return reading

    def _read(self, now: float, request: PollRequest) -> Reading:
        newest, last = self.source.newest(self.project_id), self._last
        if last is None or self._must_read(newest, request):
            project, counts = self.source.project(self.project_id, newest[2])
            space, why_no_space = label_space_of(project, request.control)
            if newest == self._newest or request.whole:  # seldom, since it lists the segments
                self._updater.forget_if_damaged()
            state = self._updater.update(project, counts, newest, space, _states_in_use(request), now)
            self._newest, self._control, self._quiet_polls = newest, request.control, 0
        else:
            project, space, why_no_space, state = last.project, last.space, last.why_no_space, last.state
            self._quiet_polls += 1
        index, control = self._updater.index, space.from_name if space else request.control
        counts_by_label, labelled, not_counted = self._count(space, state)
        baseline = self._baselines.find(project.key, request.baselines)
        self._compare_with_suggestions(project.key, space, now)
        self._last = Reading(
            project=project,
            space=space,
            why_no_space=why_no_space,
            index=index,
            state=state,
            counts=counts_by_label,
            labelled=labelled,
            not_counted=not_counted,
            comparison=compare(index, space, control, baseline),
            baseline=baseline,
            read_at=now,
            agreement=self._agreement.value,
            help=self._help.value,
            is_unchanged=last is not None and (last.state, last.project) == (state, project),
        )
        return self._last

    def _must_read(self, newest: tuple[int, int, str], request: PollRequest) -> bool:
        return (
            request.whole
            or (newest, request.control) != (self._newest, self._control)
            or self._quiet_polls >= _QUIET_POLLS
        )

    def _count(
        self, space: LabelSpace | None, state: LabelState
    ) -> tuple[Mapping[str, int], int, tuple[Uncounted, ...]]:
        """Return the examples of each label and in all, and what does not count; those of the last poll if nothing changed."""
        if space is None:
            return {}, 0, ()
        if self._last and (self._last.state, self._last.space) == (state, space):
            return self._last.counts, self._last.labelled, self._last.not_counted
        examples = examples_of(self._updater.index)  # not kept: they take as much memory as the index
        not_counted = examples.not_counted(space, state.counts.skipped)
        return examples.counts(space), len(examples.rows), not_counted

    def _compare_with_suggestions(self, project_key: str, space: LabelSpace | None, now: float) -> None:
        """Compare the labels made last with suggestions if that is due; an error here does not fail the poll."""
        monitor, last = self._agreement, self._last
        if last and last.space != space:
            monitor.reset()
            self._help.reset()
        monitor.due |= last is None or last.index is not self._updater.index
        if space and monitor.is_due(now):
            try:
                texts = bool(self._help.share)
                tasks = self.source.suggested_tasks(self.project_id, MAX_ANNOTATIONS, texts=texts)
                monitor.update(space, tasks, now)
                self._help.update(project_key, space, tasks, now)
            except FitloopError as error:
                monitor.due, monitor.compared_at = True, now
                log.warning("agreement_not_read", project=self.project_id, reason=str(error))


def _states_in_use(request: PollRequest) -> list[LabelState]:
    return [*request.in_use, *(run.labels for run in request.baselines if run.labels)]


def label_space_of(project: Project, control: str | None) -> tuple[LabelSpace | None, str]:
    """Return the label space of the project's label config, for the control that settings name; or why there is none."""
    try:
        return parse_label_space(project.label_config, control), ""
    except NoLabelSpace as error:
        return None, str(error)
