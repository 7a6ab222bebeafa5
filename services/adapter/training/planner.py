"""Plans the runs of one project: when to poll Label Studio, what the trigger decides, and the request of a run.

A worker polls; the leader's thread decides. A decision is only made on labels whose poll began after the last run was seen to
end, otherwise what that run has read would count as changed once more; and a command is decided on a poll that began after it
was given. Events only make a poll due earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from services.adapter.training import trigger
from services.adapter.training.label_reader import LabelReader, PollRequest, Reading
from services.adapter.training.monitoring import WebhookMonitor
from services.adapter.training.poll_schedule import PollSchedule
from services.adapter.training.run_queue import RunQueue, request_run
from services.adapter.training.runs import RunHistory
from services.core.domain import Command, Parameters
from services.core.errors import BadRequest, ProjectReplaced
from services.core.inbox import Inbox
from services.core.settings import TrainingSettings
from services.core.settings.parameters import CONTROL_IS_PER_PROJECT, apply_overrides

log = structlog.get_logger()
_TRAIN: Final = "train"


@dataclass(slots=True)
class Planner:
    """Polls, decides and requests runs."""

    schedule: PollSchedule
    defaults: Parameters
    training: TrainingSettings
    reader: LabelReader
    history: RunHistory
    inbox: Inbox
    run_queue: RunQueue
    term: Callable[[], int]
    reading: Reading | None = None
    """The last poll's."""
    observation: trigger.Observation | None = None
    reason: str = ""
    """The last decision's, for people."""
    problem: str = ""
    """What is wrong with the requested parameters; "" if nothing is."""
    parameters: Parameters | None = None
    """Of a run that no command asks for, by the settings at the last poll; None before it."""
    webhook: WebhookMonitor = field(default_factory=WebhookMonitor)
    is_queued: bool = False
    """Whether a run would start, but for those of other projects."""
    is_disconnected: bool = False
    """Whether Label Studio calls us for the project no more."""
    _polled: tuple[Command, ...] = ()
    """The TRAIN commands that were waiting when the last poll began."""
    _is_outdated: bool = False
    """Whether something happened since the last poll began on which its decision depends."""
    _dismissal: tuple[str, str] | None = None
    """The digest of the labels on which a command was dismissed, and the reason."""
    _whole: bool = False
    """Whether the label config may have changed since the last poll began."""

    def event_received(self, at: float, *, whole: bool = False) -> None:
        """Note an event; `whole`: one of the project itself, whose label config may have changed."""
        self.webhook.event_received(at)
        self.schedule.event_received(at)
        self._whole = self._whole or whole

    def poll_soon(self) -> None:
        """Poll in the next step, and decide on nothing that was read before."""
        self.schedule.poll_soon()
        self._is_outdated = True

    @property
    def quiet_at(self) -> float:
        """When the last burst of events is over."""
        return self.schedule.quiet_at

    def due_at(self) -> float:
        """Return when the next poll is due."""
        may_start = self.run_queue.is_next(self.reader.project_id)
        return self.schedule.due_at(self.reader.backoff.until if may_start else None)

    def is_due(self, trains: Sequence[Command], now: float) -> bool:
        """Return whether to poll now: it is due, or a TRAIN command has come since the last poll began and no run is active."""
        polled = {command.id for command in self._polled}
        is_new = self.history.active is None and any(command.id not in polled for command in trains)
        return now >= self.due_at() or (is_new and not self.schedule.is_blocked(now))

    def control(self, overrides: Mapping[str, str]) -> str | None:
        """Return the control that settings name; None: none does."""
        return overrides.get("control") or self.defaults.control

    def start_poll(
        self, trains: Sequence[Command], overrides: Mapping[str, str], now: float
    ) -> Callable[[], Reading | None]:
        """Return the poll, for a worker; `decide` takes its result."""
        self.schedule.began(now)
        self._polled = tuple(trains)
        self._is_outdated = False
        whole, self._whole = self._whole or bool(trains), False
        active = self.history.active
        in_use = (active.request.labels,) if active and active.request.labels else ()
        asked = PollRequest(self.control(overrides), self.history.baselines, in_use, whole)
        return partial(self.reader.poll, now, asked)

    def decide(
        self,
        reading: Reading | None,
        trains: Sequence[Command],
        overrides: Mapping[str, str],
        now: float,
        *,
        paused: bool,
    ) -> None:
        """Decide on what was polled; None: the poll failed. Raises ProjectReplaced, StoreError."""
        if reading is None:
            self.schedule.failed(self.reader.backoff.until)
            self.is_queued = False
            self.run_queue.dequeue(self.reader.project_id)
            return
        if reading.project.key != self.history.project.key:
            raise ProjectReplaced(
                f"Project {reading.project.id} was deleted, and its id given to another project."
            )
        changed = self.reading is not None and self.reading.digest != reading.digest
        self.webhook.labels_read(now, changed=changed)
        self.reading = reading
        if self._is_outdated:
            return
        self._decide(reading, trigger.still_asked(self._polled, trains), overrides, now, paused=paused)
        self.schedule.succeeded(now, is_unchanged=reading.is_unchanged)

    def _decide(
        self,
        reading: Reading,
        trains: Sequence[Command],
        overrides: Mapping[str, str],
        now: float,
        *,
        paused: bool,
    ) -> None:
        parameters, valid = self._resolve_parameters(trains, overrides)
        self.observation = self._observe(reading, parameters)
        situation = trigger.Situation(
            commands=tuple(command.id for command in valid),
            active=self.history.active.run if self.history.active else None,
            ended=self.history.ended,
            paused=paused,
            disconnected=self.is_disconnected,
        )
        decision = self._enqueue(trigger.decide(self.observation, situation, self.schedule.policy, now), now)
        self._log_decision(decision, reading, valid)
        if isinstance(decision, trigger.Launch):
            control = reading.space.from_name if reading.space else parameters.control
            parameters = replace(parameters, control=control)
            fingerprint = self.observation.fingerprint
            request_run(
                self.history, decision, parameters, valid, reading.state, fingerprint, self.term(), now
            )
            self.run_queue.set_running(self.reader.project_id, self.history.records[-1].run)
            for command in valid:
                self.inbox.answer_command(command)
        elif isinstance(decision, trigger.Ignore):
            for command in valid:
                self.inbox.answer_command(command, self.reason)

    def _resolve_parameters(
        self, trains: Sequence[Command], overrides: Mapping[str, str]
    ) -> tuple[Parameters, list[Command]]:
        """Return the settings with the project's and the commands' overrides, and the commands with valid ones."""
        logged, self.problem, valid = self.problem, "", []
        parameters = self._apply(self.defaults, overrides, "the backend's extra parameters", logged)
        self.parameters = parameters
        for command in trains:
            changed = self._apply(parameters, command.parameters, _TRAIN)
            if self.problem and changed is parameters and command.parameters:
                self.inbox.answer_command(command)
            else:
                parameters = changed
                valid.append(command)
        return parameters, valid

    def _apply(
        self, parameters: Parameters, overrides: Mapping[str, str], source: str, logged: str = ""
    ) -> Parameters:
        """Apply overrides; if they are invalid, return the parameters as they are. `logged`: the problem logged at the last poll."""
        try:
            if source == _TRAIN and "control" in overrides:
                raise BadRequest(CONTROL_IS_PER_PROJECT)  # noqa: TRY301  # reported like other invalid ones
            return apply_overrides(parameters, overrides, self.training) if overrides else parameters
        except BadRequest as error:
            self.problem = f"Ignored from {source}: {error}"
            if self.problem != logged:
                log.warning(
                    "parameters_refused", project=self.reader.project_id, source=source, reason=str(error)
                )
            return parameters

    def _observe(self, reading: Reading, parameters: Parameters) -> trigger.Observation:
        if reading.baseline:
            self.history.note_baseline(reading.baseline)
        space, found = reading.space, reading.comparison
        control = space.from_name if space else parameters.control
        config = reading.project.label_config_hash
        return trigger.Observation(
            changed=found.changed,
            lost_labels=found.lost_labels,
            not_trainable=reading.not_trainable(parameters),
            fingerprint=trigger.fingerprint(reading.digest, config, replace(parameters, control=control)),
            switched_control=found.switched_control,
            oldest_change=found.oldest_change,
        )

    def _enqueue(self, decision: trigger.Decision, now: float) -> trigger.Decision:
        """Turn Launch into Wait while the run queue is full or other projects have waited longer."""
        self.is_queued = False
        if not isinstance(decision, trigger.Launch):
            self.run_queue.dequeue(self.reader.project_id)
            return decision
        others = self.run_queue.enqueue(self.reader.project_id, now)
        self.is_queued = bool(others)
        return trigger.Wait(f"{decision.cause}; {others}") if others else decision

    def _log_decision(self, decision: trigger.Decision, reading: Reading, trains: Sequence[Command]) -> None:
        """Log a new reason. Why a command was dismissed is shown until labels change; else the next poll would hide it."""
        is_launch = isinstance(decision, trigger.Launch)
        reason = decision.cause if isinstance(decision, trigger.Launch) else decision.reason
        if isinstance(decision, trigger.Ignore) and trains:
            self._dismissal = (reading.digest, reason)
        if self._dismissal and self._dismissal[0] != reading.digest:
            self._dismissal = None
        if (
            self._dismissal
            and self.observation
            and reason == trigger.progress(self.observation, self.schedule.policy)
        ):
            reason = self._dismissal[1]
        if reason != self.reason and not is_launch:  # which is logged with the run's name
            kind = type(decision).__name__.lower()
            log.info("trigger_decision", project=self.reader.project_id, decision=kind, reason=reason)
        self.reason = reason
