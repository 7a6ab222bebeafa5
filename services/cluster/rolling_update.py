"""Rolling updates as they are decided: one at a time, not too often, undone when they do not end. All of it pure.

A version that a roll did not bring is set aside: no target, for longer each time, so that the rolls of the others end.

A roll's generation is the moment at which it began, in milliseconds, and stands in the predictors' annotation: from it and
from the pods a new leader knows which roll goes on, since when, and what it is undone to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.adapter.ports import RolloutStatus
from services.cluster.pods import PredictorPod

RETRY_SECONDS: Final = 120.0
"""After a roll brought a version nowhere, until it is tried again; doubled each time, to an hour."""
_MAX_RETRY_SECONDS: Final = 3600.0
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class RollingUpdate:
    """A rolling update that goes on."""

    generation: str
    started: float
    previous: str
    """The annotation that it is undone to; "" for none."""


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """Rolls so far: the one that goes on, and when the next may begin."""

    update: RollingUpdate | None = None
    last_started: float = _NEVER
    blocked_until: float = _NEVER
    blocked_reason: str = ""

    def wait_status(self, now: float, interval: float) -> RolloutStatus | None:
        """Why no roll may begin yet; None where one may."""
        if now < self.blocked_until:
            reason = f"{self.blocked_reason}; tried again in {self.blocked_until - now:.0f} s"
            return RolloutStatus(done=False, reason=reason, blocked=True)
        if now < self.last_started + interval:
            wait = self.last_started + interval - now
            return RolloutStatus(done=False, reason=f"the next rolling update begins in {wait:.0f} s")
        return None

    def start(self, before: str, now: float) -> RolloutPlan:
        """A roll begins."""
        return replace(self, update=RollingUpdate(f"{int(now * 1000)}", now, before), last_started=now)

    def finish(self) -> RolloutPlan:
        """It came to its end, or was undone for versions that are set aside."""
        return replace(self, update=None)

    def roll_back(self, why: str, now: float) -> RolloutPlan:
        """It was undone, and for which version is not known: all wait."""
        return RolloutPlan(None, self.last_started, now + RETRY_SECONDS, why)


@dataclass(frozen=True, slots=True)
class FailedRollout:
    """A version that rolls did not bring."""

    until: float = _NEVER
    reason: str = ""
    failures: int = 0

    def fail(self, reason: str, now: float, position: int) -> FailedRollout:
        """Once more. `place` among those of the same roll: the first comes back alone, so that it shows which one it is."""
        wait = min(RETRY_SECONDS * 2.0 ** min(self.failures, 10), _MAX_RETRY_SECONDS)
        return FailedRollout(now + wait + RETRY_SECONDS * position, reason, self.failures + 1)

    def wait_status(self, now: float) -> RolloutStatus | None:
        """Why it must wait; None where it need not any more."""
        if now >= self.until:
            return None
        reason = f"{self.reason}; tried again in {self.until - now:.0f} s"
        return RolloutStatus(done=False, reason=reason, blocked=True, deferred=True)


def resume_plan(annotation: str, pods: Sequence[PredictorPod], now: float) -> RolloutPlan:
    """What a new leader goes on with: a roll whose pods are not all new yet, or one that was just undone."""
    others = [pod.generation for pod in pods if pod.generation != annotation]
    newest = max((_started_at(generation) for generation in others), default=_NEVER)
    began = min(_started_at(annotation), now)
    if others and newest > _started_at(annotation):
        return RolloutPlan(last_started=min(newest, now)).roll_back("the last rolling update was undone", now)
    if others and annotation:
        return RolloutPlan(RollingUpdate(annotation, began, max(others, key=_started_at)), began)
    return RolloutPlan(last_started=began)


def loading_status(pods: Sequence[PredictorPod], name: tuple[str, str]) -> RolloutStatus:
    """Done once there is a ready pod, and every ready one holds the version."""
    ready = [pod for pod in pods if pod.ready]
    holding = [pod for pod in ready if name in pod.loaded]
    if not ready:
        return RolloutStatus(done=False, reason=f"no predictor is ready{_waiting_suffix(pods)}")
    if len(holding) == len(ready):
        return RolloutStatus(done=True)
    silent = [f"{pod.name} does not answer" for pod in ready if not pod.responds]
    why = next((pod.delayed[name] for pod in ready if name in pod.delayed), next(iter(silent), ""))
    return RolloutStatus(
        done=False, reason=f"{len(holding)} of {len(ready)} predictors hold it{f' ({why})' if why else ''}"
    )


def is_rolled_out(pods: Sequence[PredictorPod], generation: str, replicas: int) -> bool:
    """Whether all pods are of this generation and ready, and there are enough of them."""
    return len(pods) >= replicas and all(pod.ready and pod.generation == generation for pod in pods)


def progress_status(pods: Sequence[PredictorPod], generation: str) -> RolloutStatus:
    """How far a roll is."""
    new = [pod for pod in pods if pod.generation == generation]
    ready = [pod for pod in new if pod.ready]
    reason = f"{len(ready)} of {max(len(pods), 1)} predictors are new and ready{_waiting_suffix(new)}"
    return RolloutStatus(done=False, reason=reason)


def suspects(
    pods: Sequence[PredictorPod], generation: str, names: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Which of these a roll failed for: those that a new pod lacks; all, where no new pod tells."""
    new = [pod for pod in pods if pod.generation == generation and pod.responds]
    return [name for name in names if any(name not in pod.loaded for pod in new)] or list(names)


def timeout_reason(pods: Sequence[PredictorPod], generation: str) -> str:
    """Why a roll did not end in time."""
    new = [pod for pod in pods if pod.generation == generation]
    return f"the new predictors did not become ready in time{_waiting_suffix(new)}"


def _waiting_suffix(pods: Sequence[PredictorPod]) -> str:
    why = next((pod.waiting_reason for pod in pods if pod.waiting_reason), "")
    return f": {why}" if why else ""


def _started_at(generation: str) -> float:
    """Seconds since the epoch; for none, and for what a person wrote there: before all others."""
    return int(generation) / 1000 if generation.isdecimal() else _NEVER
