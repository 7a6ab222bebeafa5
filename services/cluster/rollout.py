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
from services.cluster.rolls import (
    Plan,
    Roll,
    Setback,
    adopted,
    held_by,
    hindered,
    rolled_out,
    to_blame,
    under_way,
)
from services.core.errors import EngineError
from services.core.settings import RolloutSettings
from services.core.telemetry.correlation import log_ids

if TYPE_CHECKING:
    from services.engine.held import Name  # the adapter's image has none of the engine's libraries

log = structlog.get_logger()
_LOOK_SECONDS: Final = 0.2
"""What was seen so recently is not asked for again: several projects may wait at once."""
_TEND_SECONDS: Final = 5.0
"""Between looks at a roll that nobody waits for."""
_PATHS: Final = {
    "inferenceservice": ("spec", "predictor", "annotations"),
    "deployment": ("spec", "template", "metadata", "annotations"),
}


@dataclass
class ClusterRollout:
    """Brings versions to the predictors."""

    kube: Kube
    fleet: PredictorPods
    workload: str
    settings: RolloutSettings
    events: EventRecorder
    clock: Callable[[], float] = time.monotonic
    plan: Plan | None = None
    """None: this leader has not looked yet."""
    _wanted_since: dict[Name, float] = field(default_factory=dict)
    _setbacks: dict[Name, Setback] = field(default_factory=dict)
    _tended: float = float("-inf")
    _seen: tuple[float, list[PredictorPod]] = (float("-inf"), [])

    def __post_init__(self) -> None:
        """Two reads of the table by the other adapters."""
        self.flip_seconds = self.settings.flip_seconds

    def advance(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """See how far it is, and do what is next. Raises EngineError where a pod refused it, ClusterError."""
        name = (project_key, version)
        if (setback := self._setbacks.get(name)) and (waits := setback.standing(now)):
            return waits
        since = self._wanted_since.setdefault(name, now)
        pods = self._pods()
        self._raise_refusal(pods, name)
        if self.settings.mode == "reload":
            standing = self._waited(pods, name, now - since)
        else:
            standing = self._rolled(pods, name, now)
        if standing.done:
            self._forget(name)
            self.events.record("VersionHeld", f"All ready predictors hold {version}.")
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
        return replace(held_by(pods, name), blocked=True)

    def withdraw(self, project_key: str, version: str) -> None:
        """It is no longer wanted. A roll that goes on for it alone is looked after by `tend`."""
        self._forget((project_key, version))

    def poll(self, now: float) -> None:
        """Look after a roll that nobody asks about any more, and, as a new leader, after one that goes on. Raises ClusterError."""
        is_idle = self.plan is not None and self.plan.roll is None
        if self.settings.mode == "reload" or is_idle or now < self._tended + _TEND_SECONDS:
            return
        self._tended = now
        self._looked_after(self._pods(), self._workload(), now)

    def _forget(self, name: Name) -> None:
        self._wanted_since.pop(name, None)
        self._setbacks.pop(name, None)

    def _raise_refusal(self, pods: Sequence[PredictorPod], name: Name) -> None:
        for pod in pods:
            if reason := pod.refused.get(name):
                self.events.record("VersionRefused", f"{name[1]}: {reason}", warning=True)
                raise EngineError(reason)

    def _pods(self) -> list[PredictorPod]:
        if self.clock() - self._seen[0] > _LOOK_SECONDS:
            self._seen = (self.clock(), self.fleet.read())
        return self._seen[1]

    def _waited(self, pods: list[PredictorPod], name: Name, waited: float) -> RolloutStatus:
        standing = held_by(pods, name)
        if standing.done or waited < self.settings.deadline_seconds:
            return standing
        self.events.record("RolloutBlocked", standing.reason, warning=True)
        return replace(standing, blocked=True)

    def _rolled(self, pods: list[PredictorPod], name: Name, now: float) -> RolloutStatus:
        workload, self._tended = self._workload(), now
        plan = self._looked_after(pods, workload, now)
        if (setback := self._setbacks.get(name)) and (waits := setback.standing(now)):
            return waits
        if plan.roll is not None:
            return under_way(pods, plan.roll.generation)
        return self._begun(plan, pods, name, now, workload)

    def _looked_after(self, pods: list[PredictorPod], workload: Document, now: float) -> Plan:
        """What goes on; it is ended, or undone, where it is time."""
        plan = self.plan or adopted(_annotation(workload, self.workload), pods, now)
        if plan.roll is not None and rolled_out(pods, plan.roll.generation, _replicas(workload)):
            plan = self._ended(plan, plan.roll, pods, now)
        elif plan.roll is not None and now - plan.roll.began > self.settings.deadline_seconds:
            plan = self._undo(plan, plan.roll, pods, now)
        self.plan = plan
        return plan

    def _begun(
        self, plan: Plan, pods: list[PredictorPod], name: Name, now: float, workload: Document
    ) -> RolloutStatus:
        """No roll goes on: either none is needed, or one begins, or it must wait."""
        if (standing := held_by(pods, name)).done:
            return standing
        if waits := plan.waits(now, self.settings.min_interval_seconds):
            return waits
        begun = plan.begin(_annotation(workload, self.workload), now)
        if begun.roll is not None:
            self._annotate(begun.roll.generation)
        self.plan = begun
        log.info("a roll begins", **log_ids(*name), reason="it is wanted, and no ready predictor holds it")
        self.events.record("RolloutStarted", f"New predictors load {name[1]}.")
        return RolloutStatus(done=False, reason="new predictors start")

    def _ended(self, plan: Plan, roll: Roll, pods: list[PredictorPod], now: float) -> Plan:
        """All pods are new. What they were to hold and do not hold, another roll at once would not bring either."""
        log.info("a roll is done", generation=roll.generation, seconds=round(now - roll.began, 1))
        left = [name for name in self._brought_by(roll) if not held_by(pods, name).done]
        for place, name in enumerate(left):
            self._set_aside(name, f"all predictors are new, and {held_by(pods, name).reason}", now, place)
        return plan.end()

    def _undo(self, plan: Plan, roll: Roll, pods: list[PredictorPod], now: float) -> Plan:
        why = hindered(pods, roll.generation)
        self._annotate(roll.before or None)
        log.warning("a roll was undone", generation=roll.generation, reason=why)
        self.events.record("RolloutBlocked", why, warning=True)
        blamed = to_blame(pods, roll.generation, self._brought_by(roll))
        for place, name in enumerate(blamed):
            self._set_aside(name, why, now, place)
        return plan.end() if blamed else plan.undone(why, now)

    def _brought_by(self, roll: Roll) -> list[Name]:
        """What was wanted when it began, and still is: that which is wanted for the longest time first."""
        wanted = sorted(self._wanted_since.items(), key=lambda item: item[1])
        return [name for name, since in wanted if since <= roll.began]

    def _set_aside(self, name: Name, why: str, now: float, place: int) -> None:
        """Wanted anew once that is over."""
        del self._wanted_since[name]
        setback = self._setbacks[name] = self._setbacks.get(name, Setback()).again(why, now, place)
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


def _annotation(workload: Document, kind: str) -> str:
    found: object = workload
    for key in _PATHS[kind.partition("/")[0]]:
        found = found.get(key) if isinstance(found, dict) else None
    return str(found.get(GENERATION) or "") if isinstance(found, dict) else ""


def _patch(kind: str, generation: str | None) -> Document:
    body: Document = {GENERATION: generation}
    for key in reversed(_PATHS[kind.partition("/")[0]]):
        body = {key: body}
    return body
