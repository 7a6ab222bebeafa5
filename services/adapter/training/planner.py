"""One project's labels and runs: when to look at Label Studio, what the trigger says of it, and the start of a run.

A decision is only ever made on labels that were read after the last run was seen to end; otherwise what a run has read
already would count as changed once more. Events only bring a look nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.training import trigger
from services.adapter.training.label_reader import LabelReader, Reading
from services.adapter.training.monitoring import WebhookMonitor
from services.adapter.training.run_queue import RunQueue
from services.adapter.training.runs import RunHistory
from services.core.domain import Command, Parameters, RunRequest
from services.core.errors import BadRequest, LabelStudioNotFound
from services.core.inbox import Inbox
from services.core.labels.annotations import untrainable_reason
from services.core.runs import version_stem
from services.core.settings import TrainingSettings, TriggerSettings
from services.core.settings.parameters import CONTROL_IS_PER_PROJECT, apply_overrides
from services.core.telemetry import tracing

log = structlog.get_logger()
_TRAIN: Final = "train"


class ProjectReplaced(LabelStudioNotFound):
    """Label Studio has another project under this id: its key differs, so it starts afresh."""


@dataclass(slots=True)
class Planner:
    """Looks, decides and starts."""

    settings: TriggerSettings
    defaults: Parameters
    training: TrainingSettings
    reader: LabelReader
    history: RunHistory
    inbox: Inbox
    run_queue: RunQueue
    term: Callable[[], int]
    reading: Reading | None = None
    """What Label Studio said last."""
    observation: trigger.Observation | None = None
    reason: str = ""
    """The last decision's, for people."""
    problem: str = ""
    """What is wrong with the parameters that were asked for; "" when nothing is."""
    webhook: WebhookMonitor = field(default_factory=WebhookMonitor)
    is_queued: bool = False
    """Whether a run would begin, were it not for those of other projects."""
    _poll_at: float = 0.0
    _burst: trigger.Burst | None = None
    _considered_commands: frozenset[str] = field(default_factory=frozenset)
    _dismissal: tuple[Mapping[int, str], str] | None = None
    """The labels on which a command was dismissed, and the sentence that says why."""

    @property
    def policy(self) -> trigger.Policy:
        """The settings that decide."""
        given = self.settings
        return trigger.Policy(given.every_n_updates, given.debounce_seconds, given.min_seconds_between_runs)

    def event_received(self, at: float) -> None:
        """Something happened to the labels."""
        self.webhook.event_received(at)
        self._burst = trigger.Burst(self._burst.first if self._burst else at, at)

    def poll_soon(self) -> None:
        """Look in the next step."""
        self._poll_at = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether no burst of events is going on."""
        return self._burst is None

    def due_at(self) -> float:
        """When the next look is due."""
        if self.run_queue.is_next(self.reader.project_id):
            return self.reader.backoff.until
        return (
            min(self._poll_at, trigger.quiet_at(self._burst, self.policy)) if self._burst else self._poll_at
        )

    def control(self, overrides: Mapping[str, str]) -> str | None:
        """The control that settings name; None: none does."""
        return overrides.get("control") or self.defaults.control

    def plan(
        self, trains: Sequence[Command], overrides: Mapping[str, str], now: float, *, paused: bool
    ) -> bool:
        """Look and decide, if that is due; whether it was. Raises Missing and StoreError."""
        if now < self.due_at() and all(command.id in self._considered_commands for command in trains):
            return False
        reading = self.reader.poll(now, self.control(overrides))
        if reading is None:
            self._burst, self._poll_at, self.is_queued = None, self.reader.backoff.until, False
            self.run_queue.dequeue(self.reader.project_id)
            return False
        if reading.project.key != self.history.project.key:
            raise ProjectReplaced(
                f"Project {reading.project.id} was deleted, and its number given to another one."
            )
        changed = self.reading is not None and self.reading.tasks != reading.tasks
        self.webhook.labels_read(now, changed=changed)
        self.reading = reading
        if self._burst and now >= trigger.quiet_at(self._burst, self.policy):
            self._burst = None
        self._decide(reading, trains, overrides, now, paused=paused)
        self._poll_at = now + self.settings.reconcile_seconds
        self._considered_commands = frozenset(command.id for command in trains)
        return True

    def _decide(
        self,
        reading: Reading,
        trains: Sequence[Command],
        overrides: Mapping[str, str],
        now: float,
        *,
        paused: bool,
    ) -> None:
        parameters, good = self._resolve_parameters(trains, overrides)
        self.observation = self._observe(reading, parameters)
        situation = trigger.Situation(
            commands=tuple(command.id for command in good),
            active=self.history.active.run if self.history.active else None,
            ended=self.history.ended,
            burst=self._burst,
            paused=paused,
        )
        decision = self._enqueue(trigger.decide(self.observation, situation, self.policy, now), now)
        self._log_decision(decision, reading, good)
        if isinstance(decision, trigger.Launch):
            self._request_run(decision, parameters, good, now)
        elif isinstance(decision, trigger.Ignore):
            self._dismiss(good)

    def _resolve_parameters(
        self, trains: Sequence[Command], overrides: Mapping[str, str]
    ) -> tuple[Parameters, list[Command]]:
        """Settings, then the project's overrides, then the commands' in turn; and the commands that can be understood."""
        told, self.problem, good = self.problem, "", []
        parameters = self._apply(self.defaults, overrides, "the backend's extra parameters", told)
        for command in trains:
            changed = self._apply(parameters, command.parameters, _TRAIN)
            if self.problem and changed is parameters and command.parameters:
                self.inbox.delete_command(command.id)
            else:
                parameters = changed
                good.append(command)
        return parameters, good

    def _apply(
        self, parameters: Parameters, overrides: Mapping[str, str], source: str, logged: str = ""
    ) -> Parameters:
        """`told`: the problem that the log has already, at each look the same."""
        try:
            if source == _TRAIN and "control" in overrides:
                raise BadRequest(CONTROL_IS_PER_PROJECT)  # noqa: TRY301  # said as what `apply` refuses is
            return apply_overrides(parameters, overrides, self.training) if overrides else parameters
        except BadRequest as error:
            self.problem = f"Not taken from {source}: {error}"
            if self.problem != logged:
                log.warning(
                    "parameters_refused", project=self.reader.project_id, source=source, reason=str(error)
                )
            return parameters

    def _observe(self, reading: Reading, parameters: Parameters) -> trigger.Observation:
        baseline = self.history.baseline
        snapshot = baseline.snapshot if baseline else None
        space = reading.space
        control = space.from_name if space else parameters.control
        switched = trigger.switched_control(control, snapshot)
        if switched:
            snapshot = None  # every label is news to a model of another control
        changed = trigger.changed_tasks(reading.tasks, snapshot)
        tasks = {str(task): signature for task, signature in reading.tasks.items()}
        config = reading.project.label_config_hash
        return trigger.Observation(
            changed=len(changed),
            lost_labels=trigger.lost_labels(space.labels, snapshot) if space else (),
            not_trainable=_why_not_trainable(reading),
            fingerprint=trigger.fingerprint(tasks, config, replace(parameters, control=control)),
            switched_control=switched,
            oldest_change=min((at for task in changed if (at := reading.changed_at.get(task))), default=None),
        )

    def _enqueue(self, decision: trigger.Decision, now: float) -> trigger.Decision:
        """Not before other projects that have waited longer, nor beside more runs than the settings allow."""
        self.is_queued = False
        if not isinstance(decision, trigger.Launch):
            self.run_queue.dequeue(self.reader.project_id)
            return decision
        others = self.run_queue.enqueue(self.reader.project_id, now)
        self.is_queued = bool(others)
        return trigger.Wait(f"{decision.cause}; {others}") if others else decision

    def _log_decision(self, decision: trigger.Decision, reading: Reading, trains: Sequence[Command]) -> None:
        said = decision.cause if isinstance(decision, trigger.Launch) else decision.reason
        if isinstance(decision, trigger.Ignore) and trains:
            self._dismissal = (reading.tasks, said)
        said = self._repeat_dismissal(said, reading)
        if said != self.reason and not isinstance(
            decision, trigger.Launch
        ):  # that is told with the run's name
            kind = type(decision).__name__.lower()
            log.info("trigger_decision", project=self.reader.project_id, decision=kind, reason=said)
        self.reason = said

    def _repeat_dismissal(self, said: str, reading: Reading) -> str:
        """Who asked for a run sees why there was none until labels change; else the next look would say less."""
        if self._dismissal and self._dismissal[0] != reading.tasks:
            self._dismissal = None
        nothing_new = self.observation is not None and said == trigger.progress(self.observation, self.policy)
        return self._dismissal[1] if self._dismissal and nothing_new else said

    def _request_run(
        self, launch: trigger.Launch, parameters: Parameters, trains: Sequence[Command], now: float
    ) -> None:
        """Write the request, which is the start: whoever finds it launches it. The commands go afterwards."""
        project, seen = self.history.project, self.observation
        space = self.reading.space if self.reading else None
        request = RunRequest(
            run=self.history.runs.next_name(project.id),
            project_key=project.key,
            project_id=project.id,
            cause=launch.cause,
            parameters=replace(
                parameters,
                control=space.from_name if space else parameters.control,
                model_name=version_stem(project, parameters.model_name),
            ),
            created_at=now,
            commands=launch.commands,
            asked={name: value for command in trains for name, value in command.parameters.items()},
            fingerprint=seen.fingerprint if seen else "",
            term=self.term(),
            asked_by=tuple(dict.fromkeys(command.asked_by for command in trains if command.asked_by)),
        )
        asked = next((command.traceparent for command in trains if command.traceparent), "")
        with tracing.span("request run", {"project": project.id, "run": request.run}, parent=asked):
            request = replace(request, traceparent=tracing.traceparent())
            self.history.runs.write(request)
        self.history.add(request)
        self.run_queue.set_running(project.id, request.run)
        log.info(
            "run_requested",
            project=project.id,
            run=request.run,
            reason=request.cause,
            commands=launch.commands,
            asked_by=request.asked_by,
        )
        for command in launch.commands:
            self.inbox.delete_command(command)

    def _dismiss(self, trains: Sequence[Command]) -> None:
        for command in trains:
            self.inbox.delete_command(command.id)
            log.info(
                "command_handled",
                project=self.reader.project_id,
                command=command.id,
                action=command.action,
                asked_by=command.asked_by,
                reason=self.reason,
            )


def _why_not_trainable(reading: Reading) -> str | None:
    if reading.space is None:
        return reading.why_no_space
    return untrainable_reason(reading.counts, reading.not_counted, reading.space.from_name)
