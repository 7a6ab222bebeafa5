"""The Rollout port over the predictors' pods: a version is rolled out once every ready pod reports it as loaded.

`reload`: running pods load the version beside the others, and the leader only waits. `rolling`: an annotation replaces the
pods, and new ones load the version before they are ready; one update at a time, and versions that come meanwhile share the
next. An update that times out is rolled back, and what it failed to load is retried later, behind the others. All state is
in the annotation and in the pods, so that a new leader resumes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.ports import RolloutStatus
from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import EventRecorder
from services.cluster.pods import GENERATION, PredictorPod, PredictorPods
from services.cluster.rolling_update import (
    FailedRollout,
    RollingUpdate,
    RolloutPlan,
    is_rolled_out,
    loading_status,
    progress_status,
    resume_plan,
    suspects,
    timeout_reason,
)
from services.core.errors import EngineError
from services.core.settings import RolloutSettings
from services.core.telemetry.correlation import log_ids
from services.engine.compute import VersionKey

log = structlog.get_logger()
_CACHE_SECONDS: Final = 0.2
"""For which a read of the pods is reused: several projects may wait at once."""
_POLL_SECONDS: Final = 5.0
"""Between polls of an update that no project waits for."""
_ANNOTATION_PATHS: Final = {
    "inferenceservice": ("spec", "predictor", "annotations"),
    "deployment": ("spec", "template", "metadata", "annotations"),
}


@dataclass
class ClusterRollout:
    """Rolls versions out to the predictors."""

    kube: Kube
    predictors: PredictorPods
    workload: str
    settings: RolloutSettings
    recorder: EventRecorder
    clock: Callable[[], float] = time.monotonic
    plan: RolloutPlan | None = None
    """None until this leader has read the pods."""
    _wanted_since: dict[VersionKey, float] = field(default_factory=dict)
    _failed: dict[VersionKey, FailedRollout] = field(default_factory=dict)
    _polled_at: float = float("-inf")
    _cached_pods: tuple[float, list[PredictorPod]] = (float("-inf"), [])

    def __post_init__(self) -> None:
        """Flip after two reads of the table by the other adapters."""
        self.flip_seconds = self.settings.flip_seconds

    def advance(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """Take the next step of the version's rollout. Raises EngineError if a pod refused it, ClusterError."""
        key = VersionKey(project_key, version)
        if (failed := self._failed.get(key)) and (waits := failed.wait_status(now)):
            return waits
        since = self._wanted_since.setdefault(key, now)
        pods = self._pods()
        self._raise_refusal(pods, key)
        if self.settings.mode == "reload":
            status = self._reload_status(pods, key, now - since)
        else:
            status = self._rolling_status(pods, key, now)
        if status.done:
            self._forget(key)
            self.recorder.record("VersionHeld", f"All ready predictors have loaded {version}.")
        return status

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Return whether the served version can answer requests; a ready pod loads it on demand. Changes nothing.

        A version that one pod refuses and another has loaded is not bad. Raises EngineError, ClusterError.
        """
        pods, key = self._pods(), VersionKey(project_key, version)
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
        is_idle = self.plan is not None and self.plan.update is None
        if self.settings.mode == "reload" or is_idle or now < self._polled_at + _POLL_SECONDS:
            return
        self._polled_at = now
        self._update_plan(self._pods(), self._workload(), now)

    def _forget(self, key: VersionKey) -> None:
        self._wanted_since.pop(key, None)
        self._failed.pop(key, None)

    def _raise_refusal(self, pods: Sequence[PredictorPod], key: VersionKey) -> None:
        for pod in pods:
            if reason := pod.refused.get(key):
                self.recorder.record("VersionRefused", f"{key.version}: {reason}", warning=True)
                raise EngineError(reason)

    def _pods(self) -> list[PredictorPod]:
        if self.clock() - self._cached_pods[0] > _CACHE_SECONDS:
            self._cached_pods = (self.clock(), self.predictors.read())
        return self._cached_pods[1]

    def _reload_status(self, pods: list[PredictorPod], key: VersionKey, waited: float) -> RolloutStatus:
        status = loading_status(pods, key)
        if status.done or waited < self.settings.deadline_seconds:
            return status
        self.recorder.record("RolloutBlocked", status.reason, warning=True)
        return replace(status, blocked=True)

    def _rolling_status(self, pods: list[PredictorPod], key: VersionKey, now: float) -> RolloutStatus:
        workload, self._polled_at = self._workload(), now
        plan = self._update_plan(pods, workload, now)
        if (failed := self._failed.get(key)) and (waits := failed.wait_status(now)):
            return waits
        if plan.update is not None:
            return progress_status(pods, plan.update.generation)
        return self._start_update(plan, pods, key, now, workload)

    def _update_plan(self, pods: list[PredictorPod], workload: Document, now: float) -> RolloutPlan:
        """Finish the update if it completed, or roll it back if it timed out."""
        plan = self.plan or resume_plan(_generation_of(workload, self.workload), pods, now)
        if plan.update is not None and is_rolled_out(pods, plan.update.generation, _replicas(workload)):
            plan = self._finish_update(plan, plan.update, pods, now)
        elif plan.update is not None and now - plan.update.started > self.settings.deadline_seconds:
            plan = self._roll_back(plan, plan.update, pods, now)
        self.plan = plan
        return plan

    def _start_update(
        self, plan: RolloutPlan, pods: list[PredictorPod], key: VersionKey, now: float, workload: Document
    ) -> RolloutStatus:
        """Start an update, unless none is needed or it must wait."""
        if (status := loading_status(pods, key)).done:
            return status
        if waits := plan.wait_status(now, self.settings.min_interval_seconds):
            return waits
        started = plan.start(_generation_of(workload, self.workload), now)
        if started.update is not None:
            self._annotate(started.update.generation)
        self.plan = started
        log.info("rolling_update_started", **log_ids(*key), reason="no ready predictor has loaded it")
        self.recorder.record("RolloutStarted", f"New predictors load {key.version}.")
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
    ) -> RolloutPlan:
        reason = timeout_reason(pods, update.generation)
        self._annotate(update.previous or None)
        log.warning("rolling_update_rolled_back", generation=update.generation, reason=reason)
        self.recorder.record("RolloutBlocked", reason, warning=True)
        deferred = suspects(pods, update.generation, self._versions_of(update))
        for position, key in enumerate(deferred):
            self._defer(key, reason, now, position)
        return plan.finish() if deferred else plan.roll_back(reason, now)

    def _versions_of(self, update: RollingUpdate) -> list[VersionKey]:
        """Return the versions that were wanted when the update started and still are, longest first."""
        wanted = sorted(self._wanted_since.items(), key=lambda item: item[1])
        return [key for key, since in wanted if since <= update.started]

    def _defer(self, key: VersionKey, reason: str, now: float, position: int) -> None:
        """Make the version wait; it counts as newly wanted afterwards."""
        del self._wanted_since[key]
        failed = self._failed[key] = self._failed.get(key, FailedRollout()).fail(reason, now, position)
        log.warning(
            "version_deferred", **log_ids(*key), reason=reason, retry_seconds=round(failed.until - now)
        )

    def _annotate(self, generation: str | None) -> None:
        kind, _, name = self.workload.partition("/")
        self.kube.patch(kind, name, _patch(self.workload, generation))

    def _workload(self) -> Document:
        kind, _, name = self.workload.partition("/")
        found = self.kube.get(kind, name)
        if found is None:
            raise ClusterError(
                f"{self.workload} does not exist: reinstall the chart, or set kserve.enabled back to its previous value."
            )
        return found


def _replicas(workload: Document) -> int:
    """Return how many pods must be ready."""
    spec = workload["spec"]
    return int(spec.get("replicas") or (spec.get("predictor") or {}).get("minReplicas") or 1)


def _generation_of(workload: Document, kind: str) -> str:
    found: object = workload
    for key in _ANNOTATION_PATHS[kind.partition("/")[0]]:
        found = found.get(key) if isinstance(found, dict) else None
    return str(found.get(GENERATION) or "") if isinstance(found, dict) else ""


def _patch(kind: str, generation: str | None) -> Document:
    body: Document = {GENERATION: generation}
    for key in reversed(_ANNOTATION_PATHS[kind.partition("/")[0]]):
        body = {key: body}
    return body
