"""The runs of kind `embed` of one project: requested, started, observed, and ended for the sake of training runs.

They are no part of the run history: they have no labels, take no number from a version, and no trigger counts them. Kept in state.json
are the last one, and the last one that was asked for a version from label names. Only the leader's thread may call this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from services.adapter.metrics import leader_metrics
from services.adapter.ports import Launcher
from services.adapter.state.project_state import EmbedState, ProjectStateFile, RunRecord
from services.adapter.training import cold_start, embed_trigger
from services.adapter.training.cold_start import ColdStart
from services.adapter.training.embed_trigger import EmbedSituation, EndedEmbed, KnownPool
from services.adapter.training.planner import Planner
from services.adapter.training.run_queue import RunQueue, RunStarter
from services.adapter.training.runs import RunHistory
from services.core.domain import EMBED, LabelSpace, Parameters, PoolState, RunRequest, RunState, Served
from services.core.runs import Runs, embed_run_name, version_stem

log = structlog.get_logger()
_WAIT_SECONDS: Final = 10.0
"""Between two decisions while training runs come first, or a failed run is to be repeated."""


@dataclass(slots=True)
class Embedding:
    """Decides on the runs of one project, and carries the decision out."""

    history: RunHistory
    planner: Planner
    state_file: ProjectStateFile
    run_queue: RunQueue
    launcher: Launcher
    seconds: float
    """FITLOOP_EMBED_SECONDS."""
    term: Callable[[], int]
    wish: ColdStart = ColdStart(is_on=False, served=Served())  # noqa: RUF009  # a frozen value may be shared
    """What the wish for a version from label names depends on, as of the last step."""
    reason: str = ""
    """Why no run starts although texts have no features; "" otherwise."""
    starter: RunStarter = field(init=False)
    _active: RunRecord | None = None
    _cancelled: str = ""
    """The run whose end was asked for."""

    def __post_init__(self) -> None:
        self.starter = RunStarter(self.launcher, self)

    @property
    def active(self) -> RunRecord | None:
        """The run that has not ended."""
        return self._active

    @property
    def pool(self) -> PoolState | None:
        """The pool as the last run that read it has left it."""
        return self._state.pool

    @property
    def problem(self) -> str:
        """Why the last run failed, or the active one cannot be launched; "" otherwise."""
        last = self._state.last
        if self._active or last is None or last.outcome is not RunState.FAILED:
            return self.starter.problem
        why = last.status.message if last.status else ""
        return f"Run {last.run}, which computes features of unlabelled texts, failed: {why or 'see its log.'}"

    def due_at(self, now: float) -> float:
        """Return when to decide again, if nothing happens before; infinity if there is nothing to do."""
        if not self.reason:
            return float("inf")
        quiet_at = self.planner.quiet_at
        return quiet_at if now < quiet_at else now + _WAIT_SECONDS

    def begin(self) -> None:
        """Continue with what state.json says. Raises StoreError."""
        last = self._state.last
        self._active = last if last and last.outcome is None else None
        if self._active and self._runs.request(self._active.run) is None:
            self._runs.write(self._active.request)
        self._report()

    def step(
        self, space: LabelSpace | None, wish: ColdStart, now: float, *, paused: bool, is_training: bool
    ) -> None:
        """Start or end a run. `is_training`: a training run is active, or wanted. Raises StoreError."""
        self.wish = wish
        self._note_training_run()
        situation = self._situation(space, now, paused=paused, is_training=is_training)
        decision = embed_trigger.decide(situation, now)
        self.reason = decision.reason if isinstance(decision, embed_trigger.Rest) else ""
        if isinstance(decision, embed_trigger.Start) and space and self.planner.parameters:
            self._request(space, self.planner.parameters, situation, decision.cause, now)
        elif isinstance(decision, embed_trigger.Cancel) and self._active:
            self._cancel(self._active.run, decision.reason)
        if not self._cancelled:
            self.starter.ensure_running(now)
        self._report()

    @property
    def _state(self) -> EmbedState:
        return self.state_file.state.embed

    @property
    def _runs(self) -> Runs:
        return self.history.runs

    def _situation(
        self, space: LabelSpace | None, now: float, *, paused: bool, is_training: bool
    ) -> EmbedSituation:
        reading, parameters, state = self.planner.reading, self.planner.parameters, self._state
        known, last = state.pool, state.last
        is_known = reading is not None and space is not None and parameters is not None
        labels = reading.state if reading and is_known else None
        tasks = labels.counts.tasks if labels else 0
        return EmbedSituation(
            seconds=self.seconds,
            fingerprint=embed_trigger.fingerprint(space, parameters) if space and parameters else "",
            tasks=tasks,
            unlabelled=tasks - labels.annotated_tasks if labels else 0,
            method=(parameters or Parameters()).method,
            names=cold_start.cause(self.wish, space, parameters, tasks, known)
            if space and parameters
            else "",
            known=KnownPool(known, state.pool_fingerprint, state.pool_is_of_embed) if known else None,
            last=_ended(last, state) if last and last.outcome else None,
            active=self._active.run if self._active else None,
            is_training=is_training,
            is_quiet=now >= self.planner.quiet_at,
            paused=paused,
            disconnected=self.planner.is_disconnected,
            has_turn=self.run_queue.has_turn_to_embed(self.history.project.id),
        )

    def _request(
        self, space: LabelSpace, parameters: Parameters, situation: EmbedSituation, cause: str, now: float
    ) -> None:
        project, number = self.history.project, self._state.number + 1
        request = RunRequest(
            run=embed_run_name(project.id, number),
            project_key=project.key,
            project_id=project.id,
            cause=cause,
            parameters=replace(
                parameters,
                control=space.from_name,
                budget_seconds=self.seconds,
                model_name=version_stem(project, parameters.model_name),
            ),
            created_at=now,
            fingerprint=situation.fingerprint,
            term=self.term(),
            kind=EMBED,
            label_names=cold_start.fingerprint(space, parameters) if situation.names else "",
        )
        self._active, self._cancelled = RunRecord(request), ""
        self._save(last=self._active, number=number, tasks=situation.tasks)
        self._runs.write(request)
        log.info("embed_run_requested", project=project.id, run=request.run, reason=cause)

    def _cancel(self, run: str, reason: str) -> None:
        if run == self._cancelled:
            return
        self._cancelled = run
        log.info("embed_run_cancelled", project=self.history.project.id, run=run, reason=reason)
        self.launcher.cancel(run)
        self.update()

    def update(self) -> bool:
        """Read the active run again, and note its end; return whether it has made a version since. Raises StoreError."""
        if self._active is None:
            return False
        run = self._active.run
        launch = self.launcher.observe(run)  # before the status: a final one is complete then
        record = self._active = replace(self._active, launch=launch, status=self._runs.status(run))
        has_version = self._note_names(record)
        if record.outcome is not None:
            self._note_end(record, record.outcome)
        return has_version

    def _note_names(self, record: RunRecord) -> bool:
        """Note what became of the wish for a version: it is decided on while the run goes on."""
        known, found = self._state.names, cold_start.names_run(record)
        if found is None or (known and known.record.run == record.run):
            return False
        self._save(names=found)
        return bool(found.result.version)

    def _note_end(self, record: RunRecord, outcome: RunState) -> None:
        run = record.run
        failures = self._state.failures if outcome is RunState.CANCELLED else 0
        changes: dict[str, Any] = {"last": record, "failures": failures}
        if outcome is RunState.FAILED:
            changes["failures"] = self._state.failures + 1
        if record.status and record.status.pool:
            changes["pool"], changes["pool_fingerprint"] = record.status.pool, record.request.fingerprint
            changes["pool_is_of_embed"] = outcome is RunState.DONE
        self._save(**changes)
        self._active, self._cancelled = None, ""
        message = record.status.message if record.status else ""
        project = record.request.project_id
        log.info("embed_run_ended", project=project, run=run, outcome=outcome, reason=message)
        leader_metrics.observe_embed_run_ended(project, outcome)

    def _note_training_run(self) -> None:
        """Take over what the last training run says of the pool, once."""
        last = self.history.last
        if last is None or last.run == self._state.noted_run:
            return
        changes: dict[str, Any] = {"noted_run": last.run}
        labels, pool = last.request.labels, last.status.pool if last.status else None
        if pool and labels and labels.space:
            changes["pool"], changes["pool_is_of_embed"] = pool, False
            changes["pool_fingerprint"] = embed_trigger.fingerprint(labels.space, last.request.parameters)
        self._save(**changes)

    def _save(self, **changes: Any) -> None:
        self.state_file.update(embed=replace(self._state, **changes))

    def _report(self) -> None:
        active = self._active
        self.run_queue.set_embedding(self.history.project.id, active.run if active else None)


def _ended(record: RunRecord, state: EmbedState) -> EndedEmbed:
    return EndedEmbed(
        record.outcome or RunState.FAILED,
        record.exit_code,
        record.ended_at,
        record.request.fingerprint,
        state.tasks,
        state.failures,
    )
