"""After a promotion or a rollback: keeps Label Studio's predictions and titles in sync with the versions in effect.

A few threads carry out deliveries, one per project at a time, in turns: a project that waits longest comes first, and one with
many tasks gives way to others after some seconds, and after its title. A project's newest job wins, a job whose version is no
longer in effect is abandoned, and errors are retried with back-off. While Label Studio does not answer, one thread at a time tries
whether it does. A new title is checked again: Label Studio may have restored the old. Outdated predictions are deleted last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Literal

import structlog

from services.adapter.serving.cleanup import Cleanup
from services.adapter.serving.delivery import Delivery
from services.adapter.serving.delivery_ports import DeliveryPorts, NoLongerWanted
from services.adapter.serving.label_studio import RefreshJob, RefreshProgress
from services.adapter.state.documents import NotLeading
from services.core.errors import FitloopError, LabelStudioUnreachable
from services.core.retry import Backoff, CircuitBreaker
from services.core.telemetry.correlation import bind_ids, new_request_id
from services.core.telemetry.logs import safe_traceback, unexpected_error_message

log = structlog.get_logger()
THREADS: Final = 4
_TURN_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 10.0
RECHECK_SECONDS: Final = 10.0
"""After a title was set. Whenever Label Studio requests our state (a task or the settings are opened), it reads the backend's row,
calls /health and /setup, and then saves the whole row: with the old title, if ours was set in between."""

Kind = Literal["deliver", "check title", "delete"]


@dataclass(slots=True)
class _Project:
    """The newest job of one project."""

    delivery: Delivery
    waiting_since: float
    steps: Iterator[None] | None = None
    """Where the last turn of the delivery ended."""
    backoff: Backoff = field(default_factory=Backoff)
    recheck_at: float = float("inf")
    delete_backoff: Backoff = field(default_factory=Backoff)

    def due_at(self, kind: Kind) -> float:
        """Return when work of this kind is due; infinity if there is none."""
        done = self.delivery.progress.done
        if kind == "deliver":
            return float("inf") if done else max(self.waiting_since, self.backoff.until)
        if kind == "check title":
            return self.recheck_at
        return self.delete_backoff.until if done and self.delivery.cleanup.is_due else float("inf")


class Refresher:
    """Carries out the newest job of each project."""

    def __init__(
        self, ports: DeliveryPorts, is_current: Callable[[RefreshJob], bool], clock: Callable[[], float]
    ) -> None:
        """Nothing runs until `start`. `is_current` returns whether a job's version is in effect; raises NotLeading."""
        self._ports = ports
        self._is_current = is_current
        self._clock = clock
        self._projects: dict[int, _Project] = {}
        self._busy: dict[int, Kind] = {}
        """What is in flight, by project: the turn of a job that was replaced may continue for one request."""
        self._breaker = CircuitBreaker()
        self._wake = threading.Condition()
        """Its lock guards all of the above."""
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Work in threads."""
        for number in range(THREADS):
            thread = threading.Thread(target=self._loop, name=f"refresh-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """Abandon all jobs; another refresher repeats them. `wait` some seconds for requests in flight."""
        self._stop.set()
        with self._wake:
            self._wake.notify_all()
        until = monotonic() + _STOP_SECONDS
        for thread in self._threads if wait else ():
            thread.join(max(0.0, until - monotonic()))

    def submit(self, job: RefreshJob) -> None:
        """Replace the project's earlier job; do nothing if it is the same."""
        with self._wake:
            known = self._projects.get(job.project_id)
            if known and known.delivery.job == job:
                return
            cleanup = known.delivery.cleanup if known else Cleanup(job.project_id)
            delivery = Delivery(job, self._ports, lambda: self._is_wanted(job), cleanup)
            self._projects[job.project_id] = _Project(delivery, self._clock())
            self._wake.notify()

    def progress(self, project_id: int) -> RefreshProgress | None:
        """Return the progress of the project's newest job."""
        return known.delivery.progress if (known := self._projects.get(project_id)) else None

    def run_due_job(self, now: float) -> bool:
        """Take one turn that is due, in this thread; return whether there was one."""
        with self._wake:
            chosen = self._choose(now)
        if chosen is None:
            return False
        project, kind = chosen
        job = project.delivery.job
        try:
            # With a request id of its own, by which its requests are found in the predictors' logs.
            with bind_ids(project=job.project_id, version=job.version, request_id=new_request_id()):
                self._take_turn(project, kind)
        finally:
            with self._wake:
                del self._busy[job.project_id]
        return True

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                busy = self.run_due_job(self._clock())
            except Exception as error:  # noqa: BLE001  # a thread that all projects share must not end
                log.error("refresh_error", frames=safe_traceback(error))
                busy = False
            if not busy:
                with self._wake:
                    self._wake.wait(_IDLE_SECONDS)

    def _choose(self, now: float) -> tuple[_Project, Kind] | None:
        """Return the project whose turn it is, and mark it as busy: titles alone first, deletions last, one at a time."""
        kinds: tuple[Kind, ...] = ("deliver", "check title", "delete")
        for kind in kinds:
            free = [one for number, one in self._projects.items() if number not in self._busy]
            due = [one for one in free if one.due_at(kind) <= now]
            if not due or (kind == "delete" and kind in self._busy.values()):
                continue
            if not self._breaker.allow(now):
                return None
            first = min(due, key=lambda one: (not one.delivery.job.title_only, one.due_at(kind)))
            self._busy[first.delivery.job.project_id] = kind
            return first, kind
        return None

    def _take_turn(self, project: _Project, kind: Kind) -> None:
        began = self._clock()
        try:
            {"deliver": self._deliver, "check title": self._check_title, "delete": self._delete}[kind](
                project
            )
        except NoLongerWanted:
            self._abandon(project)
            self._report(self._breaker.cancelled)
        except NotLeading as error:
            self._report(self._breaker.cancelled)
            self._failed(project, kind, str(error), began)
        except LabelStudioUnreachable as error:
            self._report(lambda: self._breaker.failed(self._clock()))
            self._failed(project, kind, str(error), began)
        except FitloopError as error:
            self._report(self._breaker.succeeded)
            self._failed(project, kind, str(error), began)
        except Exception as error:  # noqa: BLE001  # a bug: other projects' jobs still run
            log.error("refresh_error", frames=safe_traceback(error))
            self._report(self._breaker.succeeded)
            self._failed(project, kind, unexpected_error_message(error), began)
        else:
            self._report(self._breaker.succeeded)

    def _report(self, report: Callable[[], None]) -> None:
        with self._wake:
            report()

    def _deliver(self, project: _Project) -> None:
        """Take a turn, which ends once the title is set: what other projects' annotators get next comes before the rest."""
        delivery, before = project.delivery, project.delivery.title
        if project.steps is None:
            project.steps = delivery.steps()
        if self._advance(project.steps, lambda: delivery.title is not before):
            project.steps = None
        else:
            project.waiting_since = self._clock()
        if delivery.title is not before and delivery.title and delivery.title.changed:
            project.recheck_at = self._clock() + RECHECK_SECONDS

    def _check_title(self, project: _Project) -> None:
        """Check a title that was set a while ago."""
        project.recheck_at = float("inf")
        delivery = project.delivery
        if delivery.set_title().changed:
            project.recheck_at = self._clock() + RECHECK_SECONDS
            log.info("title_restored", project=delivery.job.project_id, version=delivery.job.version)

    def _delete(self, project: _Project) -> None:
        self._advance(project.delivery.delete_outdated())
        project.delete_backoff.succeeded()
        project.delete_backoff.until = self._clock()  # other projects' deletions come first

    def _advance(self, steps: Iterator[None], is_enough: Callable[[], bool] = lambda: False) -> bool:
        """Take steps for as long as a turn takes; return whether none is left."""
        until = self._clock() + _TURN_SECONDS
        return all(self._clock() < until and not is_enough() for _ in steps)

    def _failed(self, project: _Project, kind: Kind, reason: str, began: float) -> None:
        """Schedule the next try."""
        job, now = project.delivery.job, self._clock()
        if kind == "check title":
            project.recheck_at = now + RECHECK_SECONDS
            log.warning("title_check_failed", project=job.project_id, reason=reason)
        elif kind == "delete":
            delay = project.delete_backoff.failed(now)
            log.warning(
                "outdated_predictions_kept", project=job.project_id, reason=reason, retry_seconds=delay
            )
        else:
            project.steps = None
            # For as long as the turn took: what was pushed without an answer may still be stored, and would be pushed twice.
            delay = project.backoff.failed(began, now - began)
            message = f"Suggestions of {job.version} could not be refreshed: {reason}"
            project.delivery.update(problem=message)
            log.warning(
                "refresh_failed",
                project=job.project_id,
                version=job.version,
                reason=reason,
                retry_seconds=delay,
            )

    def _is_wanted(self, job: RefreshJob) -> bool:
        newest = self._projects.get(job.project_id)
        is_newest = newest is not None and newest.delivery.job is job
        return not self._stop.is_set() and is_newest and self._is_current(job)

    def _abandon(self, project: _Project) -> None:
        """Drop a job whose version is no longer in effect, unless a newer one replaced it already."""
        number = project.delivery.job.project_id
        with self._wake:
            if self._projects.get(number) is project:
                del self._projects[number]
