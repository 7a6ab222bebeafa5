"""The Rollout port over the predictors' pods: a version is there once every ready pod says that it holds it, warmed.

`reload`: running pods load it beside what they hold, and there is only to wait. `rolling`: an annotation makes new pods,
which load it before they are ready; one roll at a time, and what comes meanwhile shares the next. A roll that does not end
is undone, and tried again later. What is known stands in the annotation and in the pods: a new leader goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.ports import Standing
from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import Events
from services.cluster.fleet import GENERATION, Fleet, Pod
from services.core.errors import EngineError
from services.core.settings import RolloutSettings

log = structlog.get_logger()
_LOOK_SECONDS: Final = 0.4
"""What was seen so recently is not asked for again: several projects may wait at once."""
_AGAIN_SECONDS: Final = 120.0
"""After a roll was undone, until it is tried again; doubled each time, to an hour."""
_PATHS: Final = {
    "inferenceservice": ("spec", "predictor", "annotations"),
    "deployment": ("spec", "template", "metadata", "annotations"),
}


@dataclass(frozen=True, slots=True)
class Roll:
    """A rolling update that goes on."""

    generation: str
    began: float
    before: str
    """The annotation that it is undone to; "" for none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Rolls so far: the one that goes on, and when the next may begin. What is decided by it is pure."""

    roll: Roll | None = None
    last_began: float = float("-inf")
    blocked_until: float = float("-inf")
    undone: int = 0

    def may_begin(self, now: float, interval: float) -> bool:
        """Whether a roll may begin: one at a time, and not too soon after the last one."""
        return self.roll is None and now - self.last_began >= interval and now >= self.blocked_until

    def begin(self, generation: str, before: str, now: float) -> Plan:
        """A roll begins."""
        return replace(self, roll=Roll(generation, now, before), last_began=now)

    def end(self) -> Plan:
        """It came to its end."""
        return replace(self, roll=None, undone=0)

    def undo(self, now: float) -> Plan:
        """It did not."""
        wait = min(_AGAIN_SECONDS * 2.0**self.undone, 3600.0)
        return replace(self, roll=None, undone=self.undone + 1, blocked_until=now + wait)


@dataclass
class ClusterRollout:
    """Brings versions to the predictors."""

    kube: Kube
    fleet: Fleet
    workload: str
    settings: RolloutSettings
    events: Events
    plan: Plan = field(default_factory=Plan)
    _wanted_since: dict[tuple[str, str], float] = field(default_factory=dict)
    _why_blocked: str = ""
    _seen: tuple[float, list[Pod]] = (float("-inf"), [])
    _written: Document = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Two reads of the table by the other adapters."""
        self.flip_seconds = self.settings.flip_seconds

    def advance(self, project_key: str, version: str, now: float) -> Standing:
        """See how far it is, and do what is next. Raises EngineError where a pod refused it, ClusterError."""
        name = (project_key, version)
        since = self._wanted_since.setdefault(name, now)
        pods = self._pods()
        self._raise_refusal(pods, name)
        if self.settings.mode == "reload":
            standing = self._waited(pods, name, now - since)
        else:
            standing = self._rolled(pods, name, now)
        if standing.done:
            self._wanted_since.pop(name, None)
            self.events.tell("VersionHeld", f"All ready predictors hold {version}.")
        return standing

    def check(self, project_key: str, version: str) -> Standing:
        """Whether what serves can be answered for: a ready pod loads on demand what it does not hold. Moves nothing.

        What one pod refuses and another one holds is not bad. Raises EngineError, ClusterError.
        """
        pods, name = self._pods(), (project_key, version)
        if not any(pod.ready and name in pod.held for pod in pods):
            self._raise_refusal(pods, name)
        if any(pod.ready for pod in pods):
            return Standing(done=True)
        return replace(held_by(pods, name), blocked=True)

    def withdraw(self, project_key: str, version: str) -> None:
        """It is no longer wanted."""
        self._wanted_since.pop((project_key, version), None)

    def _raise_refusal(self, pods: Sequence[Pod], name: tuple[str, str]) -> None:
        for pod in pods:
            if reason := pod.refused.get(name):
                self.events.tell("VersionRefused", f"{name[1]}: {reason}", warning=True)
                raise EngineError(reason)

    def _pods(self) -> list[Pod]:
        if time.monotonic() - self._seen[0] > _LOOK_SECONDS:
            self._seen = (time.monotonic(), self.fleet.pods())
        return self._seen[1]

    def _waited(self, pods: list[Pod], name: tuple[str, str], waited: float) -> Standing:
        standing = held_by(pods, name)
        if standing.done or waited < self.settings.deadline_seconds:
            return standing
        self.events.tell("RolloutBlocked", standing.reason, warning=True)
        return replace(standing, blocked=True)

    def _rolled(self, pods: list[Pod], name: tuple[str, str], now: float) -> Standing:
        if self.plan.roll is None and (standing := held_by(pods, name)).done:
            return standing
        self._adopt(now)
        roll = self.plan.roll
        if roll is None:
            return self._begin(name, now)
        if rolled_out(pods, roll.generation, self._replicas()):
            standing = held_by(pods, name)
            log.info("a roll is done", generation=roll.generation, seconds=round(now - roll.began, 1))
            self.plan = self.plan.end()
            return standing
        if now - roll.began > self.settings.deadline_seconds:
            return self._undo(roll, pods, now)
        return Standing(done=False, reason=_under_way(pods, roll.generation))

    def _adopt(self, now: float) -> None:
        """After a change of leaders: a roll that another one began is gone on with."""
        if self.plan.last_began > float("-inf"):
            return
        generation = _annotation(self._workload(), self.workload)
        self.plan = replace(self.plan, last_began=now - self.settings.min_interval_seconds)
        if generation and any(pod.generation != generation for pod in self._seen[1]):
            others = [pod.generation for pod in self._seen[1] if pod.generation != generation]
            self.plan = self.plan.begin(generation, others[0], now)

    def _begin(self, name: tuple[str, str], now: float) -> Standing:
        if now < self.plan.blocked_until:
            wait = self.plan.blocked_until - now
            return Standing(
                done=False, reason=f"{self._why_blocked}; tried again in {wait:.0f} s", blocked=True
            )
        if not self.plan.may_begin(now, self.settings.min_interval_seconds):
            wait = self.plan.last_began + self.settings.min_interval_seconds - now
            return Standing(done=False, reason=f"the next rolling update begins in {wait:.0f} s")
        before = _annotation(self._workload(), self.workload)
        generation = f"{int(now * 1000)}"
        self._annotate(generation)
        self.plan = self.plan.begin(generation, before, now)
        log.info("a roll begins", generation=generation, version=name[1])
        self.events.tell("RolloutStarted", f"New predictors load {name[1]}.")
        return Standing(done=False, reason="new predictors start")

    def _undo(self, roll: Roll, pods: list[Pod], now: float) -> Standing:
        self._why_blocked = _hindered(pods, roll.generation)
        self._annotate(roll.before or None)
        self.plan = self.plan.undo(now)
        log.warning("a roll was undone", generation=roll.generation, reason=self._why_blocked)
        self.events.tell("RolloutBlocked", self._why_blocked, warning=True)
        return Standing(done=False, reason=self._why_blocked, blocked=True)

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

    def _replicas(self) -> int:
        """How many predictors there are to be: the pods that are ready must be so many."""
        found = self._workload()
        spec = found["spec"] if self.workload.startswith("deployment/") else found["spec"]["predictor"]
        return int(spec.get("replicas") or spec.get("minReplicas") or 1)


def held_by(pods: Sequence[Pod], name: tuple[str, str]) -> Standing:
    """Done once there is a ready pod, and every ready one holds the version. Pure."""
    ready = [pod for pod in pods if pod.ready]
    holding = [pod for pod in ready if name in pod.held]
    if ready and len(holding) == len(ready):
        return Standing(done=True)
    if not ready:
        why = next((pod.waits for pod in pods if pod.waits), "")
        return Standing(done=False, reason=f"no predictor is ready{f': {why}' if why else ''}")
    return Standing(done=False, reason=f"{len(holding)} of {len(ready)} predictors hold it")


def rolled_out(pods: Sequence[Pod], generation: str, replicas: int) -> bool:
    """Whether all pods are of this generation and ready, and there are enough of them. Pure."""
    return len(pods) >= replicas and all(pod.ready and pod.generation == generation for pod in pods)


def _under_way(pods: Sequence[Pod], generation: str) -> str:
    new = [pod for pod in pods if pod.generation == generation]
    ready = [pod for pod in new if pod.ready]
    why = next((pod.waits for pod in new if pod.waits), "")
    return f"{len(ready)} of {max(len(pods), 1)} predictors are new and ready{f' ({why})' if why else ''}"


def _hindered(pods: Sequence[Pod], generation: str) -> str:
    why = next((pod.waits for pod in pods if pod.generation == generation and pod.waits), "")
    return f"the new predictors did not become ready in time{f': {why}' if why else ''}"


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
