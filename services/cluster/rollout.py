"""The Rollout port over the predictors' pods: a version is there once every ready pod says that it holds it, warmed.

`reload`: running pods load it beside what they hold, and there is only to wait. `rolling`: an annotation makes new pods,
which load it before they are ready; one roll at a time, and what comes meanwhile shares the next. A roll that does not end
is undone; what it did not bring is tried again later, behind the others. What is known stands in the annotation and in the
pods: a new leader goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from services.engine.compute import VersionKey  # the adapter's image has none of the engine's libraries

log = structlog.get_logger()
_CACHE_SECONDS: Final = 0.2
"""What was seen so recently is not asked for again: several projects may wait at once."""
_POLL_SECONDS: Final = 5.0
"""Between looks at a roll that nobody waits for."""
_ANNOTATION_PATHS: Final = {
    "inferenceservice": ("spec", "predictor", "annotations"),
    "deployment": ("spec", "template", "metadata", "annotations"),
}


@dataclass
class ClusterRollout:
    """Brings versions to the predictors."""

    kube: Kube
    predictors: PredictorPods
    workload: str
    settings: RolloutSettings
    recorder: EventRecorder
    clock: Callable[[], float] = time.monotonic
    plan: RolloutPlan | None = None
    """None: this leader has not looked yet."""
    _wanted_since: dict[VersionKey, float] = field(default_factory=dict)
    _failed: dict[VersionKey, FailedRollout] = field(default_factory=dict)
    _polled_at: float = float("-inf")
    _cached_pods: tuple[float, list[PredictorPod]] = (float("-inf"), [])

    def __post_init__(self) -> None:
        """Two reads of the table by the other adapters."""
        self.flip_seconds = self.settings.flip_seconds

    def advance(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """See how far it is, and do what is next. Raises EngineError where a pod refused it, ClusterError."""
        name = (project_key, version)
        if (setback := self._failed.get(name)) and (waits := setback.wait_status(now)):
            return waits
        since = self._wanted_since.setdefault(name, now)
        pods = self._pods()
        self._raise_refusal(pods, name)
        if self.settings.mode == "reload":
            standing = self._reload_status(pods, name, now - since)
        else:
            standing = self._rolling_status(pods, name, now)
        if standing.done:
            self._forget(name)
            self.recorder.record("VersionHeld", f"All ready predictors hold {version}.")
        return standing

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Whether what serves can be answered for: a ready pod loads on demand what it does not hold. Moves nothing.

        What one pod refuses and another one holds is not bad. Raises EngineError, ClusterError.
        """
        pods, name = self._pods(), (project_key, version)
        if not any(pod.ready and name in pod.loaded for pod in pods):
            self._raise_refusal(pods, name)
        if any(pod.ready for pod in pods):
            return RolloutStatus(done=True)
        return replace(loading_status(pods, name), blocked=True)

    def withdraw(self, project_key: str, version: str) -> None:
        """It is no longer wanted. A roll that goes on for it alone is looked after by `tend`."""
        self._forget((project_key, version))

    def poll(self, now: float) -> None:
        """Look after a roll that nobody asks about any more, and, as a new leader, after one that goes on. Raises ClusterError."""
        is_idle = self.plan is not None and self.plan.update is None
        if self.settings.mode == "reload" or is_idle or now < self._polled_at + _POLL_SECONDS:
            return
        self._polled_at = now
        self._update_plan(self._pods(), self._workload(), now)

    def _forget(self, name: VersionKey) -> None:
        self._wanted_since.pop(name, None)
        self._failed.pop(name, None)

    def _raise_refusal(self, pods: Sequence[PredictorPod], name: VersionKey) -> None:
        for pod in pods:
            if reason := pod.refused.get(name):
                self.recorder.record("VersionRefused", f"{name[1]}: {reason}", warning=True)
                raise EngineError(reason)

    def _pods(self) -> list[PredictorPod]:
        if self.clock() - self._cached_pods[0] > _CACHE_SECONDS:
            self._cached_pods = (self.clock(), self.predictors.read())
        return self._cached_pods[1]

    def _reload_status(self, pods: list[PredictorPod], name: VersionKey, waited: float) -> RolloutStatus:
        standing = loading_status(pods, name)
        if standing.done or waited < self.settings.deadline_seconds:
            return standing
        self.recorder.record("RolloutBlocked", standing.reason, warning=True)
        return replace(standing, blocked=True)

    def _rolling_status(self, pods: list[PredictorPod], name: VersionKey, now: float) -> RolloutStatus:
        workload, self._polled_at = self._workload(), now
        plan = self._update_plan(pods, workload, now)
        if (setback := self._failed.get(name)) and (waits := setback.wait_status(now)):
            return waits
        if plan.update is not None:
            return progress_status(pods, plan.update.generation)
        return self._start_update(plan, pods, name, now, workload)

    def _update_plan(self, pods: list[PredictorPod], workload: Document, now: float) -> RolloutPlan:
        """What goes on; it is ended, or undone, where it is time."""
        plan = self.plan or resume_plan(_generation_of(workload, self.workload), pods, now)
        if plan.update is not None and is_rolled_out(pods, plan.update.generation, _replicas(workload)):
            plan = self._finish_update(plan, plan.update, pods, now)
        elif plan.update is not None and now - plan.update.started > self.settings.deadline_seconds:
            plan = self._roll_back(plan, plan.update, pods, now)
        self.plan = plan
        return plan

    def _start_update(
        self, plan: RolloutPlan, pods: list[PredictorPod], name: VersionKey, now: float, workload: Document
    ) -> RolloutStatus:
        """No roll goes on: either none is needed, or one begins, or it must wait."""
        if (standing := loading_status(pods, name)).done:
            return standing
        if waits := plan.wait_status(now, self.settings.min_interval_seconds):
            return waits
        begun = plan.start(_generation_of(workload, self.workload), now)
        if begun.update is not None:
            self._annotate(begun.update.generation)
        self.plan = begun
        log.info("a roll begins", **log_ids(*name), reason="it is wanted, and no ready predictor holds it")
        self.recorder.record("RolloutStarted", f"New predictors load {name[1]}.")
        return RolloutStatus(done=False, reason="new predictors start")

    def _finish_update(
        self, plan: RolloutPlan, roll: RollingUpdate, pods: list[PredictorPod], now: float
    ) -> RolloutPlan:
        """All pods are new. What they were to hold and do not hold, another roll at once would not bring either."""
        log.info("a roll is done", generation=roll.generation, seconds=round(now - roll.started, 1))
        left = [name for name in self._versions_of(roll) if not loading_status(pods, name).done]
        for place, name in enumerate(left):
            self._defer(name, f"all predictors are new, and {loading_status(pods, name).reason}", now, place)
        return plan.finish()

    def _roll_back(
        self, plan: RolloutPlan, roll: RollingUpdate, pods: list[PredictorPod], now: float
    ) -> RolloutPlan:
        why = timeout_reason(pods, roll.generation)
        self._annotate(roll.previous or None)
        log.warning("a roll was undone", generation=roll.generation, reason=why)
        self.recorder.record("RolloutBlocked", why, warning=True)
        blamed = suspects(pods, roll.generation, self._versions_of(roll))
        for place, name in enumerate(blamed):
            self._defer(name, why, now, place)
        return plan.finish() if blamed else plan.roll_back(why, now)

    def _versions_of(self, roll: RollingUpdate) -> list[VersionKey]:
        """What was wanted when it began, and still is: that which is wanted for the longest time first."""
        wanted = sorted(self._wanted_since.items(), key=lambda item: item[1])
        return [name for name, since in wanted if since <= roll.started]

    def _defer(self, name: VersionKey, why: str, now: float, place: int) -> None:
        """Wanted anew once that is over."""
        del self._wanted_since[name]
        setback = self._failed[name] = self._failed.get(name, FailedRollout()).fail(why, now, place)
        log.warning(
            "a version is set aside", **log_ids(*name), reason=why, seconds=round(setback.until - now)
        )

    def _annotate(self, generation: str | None) -> None:
        kind, _, name = self.workload.partition("/")
        self.kube.patch(kind, name, _patch(self.workload, generation))

    def _workload(self) -> Document:
        kind, _, name = self.workload.partition("/")
        found = self.kube.get(kind, name)
        if found is None:
            raise ClusterError(
                f"{self.workload} does not exist: install the chart again, or set kserve.enabled as it was."
            )
        return found


def _replicas(workload: Document) -> int:
    """How many predictors there are to be: so many pods must be ready."""
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
