"""The Rollout port over the predictors' pods: a version is rolled out once every ready pod reports it as loaded.

`reload`: running pods load the version beside the others, and the leader only waits. `rolling`: an annotation replaces the
pods, and new ones load the version before they are ready; one update at a time, and versions that come meanwhile share the
next. An update that times out is rolled back, and what it failed to load is retried later, behind the others. A version whose
encoder all ready pods have in memory is reloaded in either mode. All state is in the annotation and in the pods, so that a new
leader resumes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import structlog

from services.adapter.leader.workers import Workers
from services.adapter.ports import RolloutStatus
from services.cluster.events import EventRecorder
from services.cluster.observer import Observation, PredictorObserver
from services.cluster.pods import PredictorPod, PredictorPods
from services.cluster.rolling_update import (
    FailedRollout,
    RollingUpdate,
    RolloutPlan,
    is_rolled_out,
    loading_status,
    loads_in_place,
    progress_status,
    resume_plan,
    suspects,
    timeout_reason,
)
from services.cluster.workload import AnnotationWriter, PredictorWorkload, replicas_of
from services.core.errors import EngineError
from services.core.settings import RolloutSettings
from services.core.telemetry.correlation import log_ids
from services.engine.compute import VersionKey

log = structlog.get_logger()
_MAX_AGE_SECONDS: Final = 20.0
"""Of an observation that is decided on: more than the timeouts of Kubernetes' API and of a predictor together."""
_POLL_SECONDS: Final = 5.0
"""Between polls of an update that no project waits for."""
_ASKING: Final = RolloutStatus(done=False, reason="the predictors are being asked")


class _Wanted(NamedTuple):
    since: float
    """Seconds since the epoch."""
    asked_from: float
    """In seconds of `clock`: what was seen before says nothing about this rollout."""


@dataclass
class ClusterRollout:
    """Rolls versions out to the predictors. It decides on what was observed last, and never waits for a predictor."""

    workload: PredictorWorkload
    predictors: PredictorPods
    settings: RolloutSettings
    recorder: EventRecorder
    workers: Workers
    """Send the requests to the API and to pods."""
    clock: Callable[[], float] = time.monotonic
    is_leading: Callable[[], bool] = lambda: True
    observer: PredictorObserver = field(init=False)
    annotation: AnnotationWriter = field(init=False)
    plan: RolloutPlan | None = None
    """None until this leader has read the pods."""
    _wanted: dict[VersionKey, _Wanted] = field(default_factory=dict)
    _failed: dict[VersionKey, FailedRollout] = field(default_factory=dict)
    _polled_at: float = float("-inf")

    def __post_init__(self) -> None:
        """Flip after two reads of the table by the other adapters."""
        self.flip_seconds = self.settings.flip_seconds
        read_workload = self.workload.read if self.settings.mode == "rolling" else dict
        self.observer = PredictorObserver(self.predictors.read, read_workload, self.workers, self.clock)
        self.annotation = AnnotationWriter(self.workload, self.workers, self.is_leading, self.clock)

    def advance(self, project_key: str, version: str, now: float, encoder: str = "") -> RolloutStatus:
        """Take the next step of the version's rollout. Raises EngineError if a pod refused it, ClusterError."""
        key = VersionKey(project_key, version)
        self.annotation.raise_error()
        if (failed := self._failed.get(key)) and (waits := failed.wait_status(now)):
            return waits
        wanted = self._wanted.setdefault(key, _Wanted(now, self.clock()))
        seen = self._observe(wanted.asked_from)
        if seen is None:
            return _ASKING
        self._raise_refusal(seen.pods, key)
        waited = now - wanted.since
        if self.settings.mode == "reload":
            status = self._reload_status(seen.pods, key, waited)
        elif waited < self.settings.deadline_seconds and loads_in_place(seen.pods, encoder):
            status = loading_status(seen.pods, key)
        else:
            status = self._rolling_status(seen, key, now)
        if status.done:
            self._forget(key)
            self.recorder.record("VersionHeld", f"All ready predictors have loaded {version}.")
        return status

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Return whether the served version can answer requests; a ready pod loads it on demand. Changes nothing.

        A version that one pod refuses and another has loaded is not bad. Raises EngineError, ClusterError.
        """
        seen, key = self._observe(), VersionKey(project_key, version)
        if seen is None:
            return _ASKING
        pods = seen.pods
        if not any(pod.ready and key in pod.loaded for pod in pods):
            self._raise_refusal(pods, key)
        if any(pod.ready for pod in pods):
            return RolloutStatus(done=True)
        return replace(loading_status(pods, key), blocked=True)

    def withdraw(self, project_key: str, version: str) -> None:
        """Forget a version that is no longer wanted; `poll` ends an update that was started for it alone."""
        self._forget(VersionKey(project_key, version))

    def poll(self, now: float) -> None:
        """Finish or roll back an update that no project waits for, or that a new leader found. Raises ClusterError."""
        self.annotation.raise_error()
        is_idle = self.plan is not None and self.plan.update is None
        if self.settings.mode == "reload" or is_idle or now < self._polled_at + _POLL_SECONDS:
            return
        if (seen := self._observe()) and not self._is_outdated(seen):
            self._polled_at = now
            self._update_plan(seen, now)

    def _forget(self, key: VersionKey) -> None:
        self._wanted.pop(key, None)
        self._failed.pop(key, None)

    def _observe(self, since: float = float("-inf")) -> Observation | None:
        """Return the last observation; None if it is too old, or began before `since`. Raises ClusterError."""
        seen = self.observer.latest()
        return seen if seen and seen.began >= max(since, self.clock() - _MAX_AGE_SECONDS) else None

    def _is_outdated(self, seen: Observation) -> bool:
        """Return whether the observation may show the workload as it was before our last annotation."""
        return self.annotation.is_busy or seen.began <= self.annotation.changed_at

    def _raise_refusal(self, pods: Sequence[PredictorPod], key: VersionKey) -> None:
        for pod in pods:
            if reason := pod.refused.get(key):
                self.recorder.record("VersionRefused", f"{key.version}: {reason}", warning=True)
                raise EngineError(reason)

    def _reload_status(self, pods: list[PredictorPod], key: VersionKey, waited: float) -> RolloutStatus:
        status = loading_status(pods, key)
        if status.done or waited < self.settings.deadline_seconds:
            return status
        self.recorder.record("RolloutBlocked", status.reason, warning=True)
        return replace(status, blocked=True)

    def _rolling_status(self, seen: Observation, key: VersionKey, now: float) -> RolloutStatus:
        if self._is_outdated(seen):
            return _ASKING
        self._polled_at = now
        plan = self._update_plan(seen, now)
        if (failed := self._failed.get(key)) and (waits := failed.wait_status(now)):
            return waits
        if self._is_outdated(seen):  # an update is being rolled back, or was just now
            return _ASKING
        if plan.update is not None:
            return progress_status(seen.pods, plan.update.generation)
        return self._start_update(plan, seen, key, now)

    def _update_plan(self, seen: Observation, now: float) -> RolloutPlan:
        """Finish the update if it completed, or roll it back if it timed out."""
        pods, workload = seen.pods, seen.workload
        self.plan = plan = self.plan or resume_plan(self.workload.generation_of(workload), pods, now)
        if plan.update is not None and is_rolled_out(pods, plan.update.generation, replicas_of(workload)):
            self.plan = self._finish_update(plan, plan.update, pods, now)
        elif plan.update is not None and now - plan.update.started > self.settings.deadline_seconds:
            self._roll_back(plan, plan.update, pods, now)
        return self.plan

    def _start_update(
        self, plan: RolloutPlan, seen: Observation, key: VersionKey, now: float
    ) -> RolloutStatus:
        """Start an update, unless none is needed or it must wait."""
        if (status := loading_status(seen.pods, key)).done:
            return status
        if waits := plan.wait_status(now, self.settings.min_interval_seconds):
            return waits
        started = plan.start(self.workload.generation_of(seen.workload), now)

        def note_started() -> None:
            self.plan = started
            log.info("rolling_update_started", **log_ids(*key), reason="no ready predictor has loaded it")
            self.recorder.record("RolloutStarted", f"New predictors load {key.version}.")

        self.annotation.change(started.update.generation if started.update else None, note_started)
        return RolloutStatus(done=False, reason="new predictors start")

    def _finish_update(
        self, plan: RolloutPlan, update: RollingUpdate, pods: list[PredictorPod], now: float
    ) -> RolloutPlan:
        """Defer what the new pods did not load: another update at once would not help."""
        log.info("rolling_update_done", generation=update.generation, seconds=round(now - update.started, 1))
        left = [key for key in self._versions_of(update) if not loading_status(pods, key).done]
        for position, key in enumerate(left):
            reason = f"all predictors are new, and {loading_status(pods, key).reason}"
            self._defer(key, reason, now, position)
        return plan.finish()

    def _roll_back(
        self, plan: RolloutPlan, update: RollingUpdate, pods: list[PredictorPod], now: float
    ) -> None:
        reason = timeout_reason(pods, update.generation)

        def note_rolled_back() -> None:
            log.warning("rolling_update_rolled_back", generation=update.generation, reason=reason)
            self.recorder.record("RolloutBlocked", reason, warning=True)
            deferred = suspects(pods, update.generation, self._versions_of(update))
            for position, key in enumerate(deferred):
                self._defer(key, reason, now, position)
            self.plan = plan.finish() if deferred else plan.roll_back(reason, now)

        self.annotation.change(update.previous or None, note_rolled_back)

    def _versions_of(self, update: RollingUpdate) -> list[VersionKey]:
        """Return the versions that were wanted when the update started and still are, longest first."""
        wanted = sorted(self._wanted.items(), key=lambda item: item[1].since)
        return [key for key, one in wanted if one.since <= update.started]

    def _defer(self, key: VersionKey, reason: str, now: float, position: int) -> None:
        """Make the version wait; it counts as newly wanted afterwards."""
        del self._wanted[key]
        failed = self._failed[key] = self._failed.get(key, FailedRollout()).fail(reason, now, position)
        log.warning(
            "version_deferred", **log_ids(*key), reason=reason, retry_seconds=round(failed.until - now)
        )
