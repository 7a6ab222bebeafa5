"""Decide about rolling updates: one at a time, at a minimum interval, rolled back when they time out. Pure functions.

A version whose encoder all pods have in memory needs no update: they read its head.

A version that an update failed to load is deferred: it is no target, with exponential back-off, so that updates for other
versions complete.

An update's generation is its start time in milliseconds, stored in the predictors' annotation. From the annotation and the
pods a new leader knows which update is in progress, since when, and what it is rolled back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.adapter.ports import RolloutStatus
from services.cluster.pods import PredictorPod
from services.engine.compute import VersionKey

RETRY_SECONDS: Final = 120.0
"""Until a failed rollout is retried; doubled with each failure, up to an hour."""
_MAX_RETRY_SECONDS: Final = 3600.0
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class RollingUpdate:
    """A rolling update in progress."""

    generation: str
    started: float
    previous: str
    """The annotation to roll back to; "" for none."""


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The update in progress, and when the next one may start."""

    update: RollingUpdate | None = None
    last_started: float = _NEVER
    blocked_until: float = _NEVER
    blocked_reason: str = ""

    def wait_status(self, now: float, interval: float) -> RolloutStatus | None:
        """Return why no update may start yet; None if one may."""
        if now < self.blocked_until:
            reason = f"{self.blocked_reason}; retried in {self.blocked_until - now:.0f} s"
            return RolloutStatus(done=False, reason=reason, blocked=True)
        if now < self.last_started + interval:
            wait = self.last_started + interval - now
            return RolloutStatus(done=False, reason=f"the next rolling update starts in {wait:.0f} s")
        return None

    def start(self, previous: str, now: float) -> RolloutPlan:
        """Start an update that would be rolled back to the annotation `previous`."""
        return replace(self, update=RollingUpdate(f"{int(now * 1000)}", now, previous), last_started=now)

    def finish(self) -> RolloutPlan:
        """End the update: it completed, or was rolled back because of versions that are deferred."""
        return replace(self, update=None)

    def roll_back(self, reason: str, now: float) -> RolloutPlan:
        """End an update that was rolled back without a known culprit: all versions wait."""
        return RolloutPlan(None, self.last_started, now + RETRY_SECONDS, reason)


@dataclass(frozen=True, slots=True)
class FailedRollout:
    """A version that one or more updates failed to load."""

    until: float = _NEVER
    reason: str = ""
    failures: int = 0

    def fail(self, reason: str, now: float, position: int) -> FailedRollout:
        """Count one more failure. `position` among the suspects of an update: they are retried one by one."""
        wait = min(RETRY_SECONDS * 2.0 ** min(self.failures, 10), _MAX_RETRY_SECONDS)
        return FailedRollout(now + wait + RETRY_SECONDS * position, reason, self.failures + 1)

    def wait_status(self, now: float) -> RolloutStatus | None:
        """Return why the version must wait; None once it need not."""
        if now >= self.until:
            return None
        reason = f"{self.reason}; retried in {self.until - now:.0f} s"
        return RolloutStatus(done=False, reason=reason, blocked=True, deferred=True)


def resume_plan(annotation: str, pods: Sequence[PredictorPod], now: float) -> RolloutPlan:
    """Return the plan that a new leader resumes: an unfinished update, or one that was just rolled back."""
    others = [pod.generation for pod in pods if pod.generation != annotation]
    newest = max((_started_at(generation) for generation in others), default=_NEVER)
    started = min(_started_at(annotation), now)
    if others and newest > _started_at(annotation):
        return RolloutPlan(last_started=min(newest, now)).roll_back(
            "the last rolling update was rolled back", now
        )
    if others and annotation:
        return RolloutPlan(RollingUpdate(annotation, started, max(others, key=_started_at)), started)
    return RolloutPlan(last_started=started)


def loading_status(pods: Sequence[PredictorPod], key: VersionKey) -> RolloutStatus:
    """Return done once there is a ready pod, and every ready one has loaded the version."""
    ready = [pod for pod in pods if pod.ready]
    loaded = [pod for pod in ready if key in pod.loaded]
    if not ready:
        return RolloutStatus(done=False, reason=f"no predictor is ready{_waiting_suffix(pods)}")
    if len(loaded) == len(ready):
        return RolloutStatus(done=True)
    silent = [f"{pod.name} does not answer" for pod in ready if not pod.responds]
    why = next((pod.delayed[key] for pod in ready if key in pod.delayed), next(iter(silent), ""))
    reason = f"{len(loaded)} of {len(ready)} predictors have loaded it{f' ({why})' if why else ''}"
    return RolloutStatus(done=False, reason=reason)


def loads_in_place(pods: Sequence[PredictorPod], encoder: str) -> bool:
    """Return whether the running pods load a version with this encoder beside the others: each that is ready has the encoder.

    "" stands for a whole model. A pod that does not answer is waited for, if another one has the encoder: it is no reason to
    replace pods.
    """
    answering = [pod for pod in pods if pod.ready and pod.responds]
    return bool(encoder and answering) and all(encoder in (pod.encoders or ()) for pod in answering)


def is_rolled_out(pods: Sequence[PredictorPod], generation: str, replicas: int) -> bool:
    """Return whether there are enough pods, all of this generation and ready."""
    return len(pods) >= replicas and all(pod.ready and pod.generation == generation for pod in pods)


def progress_status(pods: Sequence[PredictorPod], generation: str) -> RolloutStatus:
    """Return how far an update is."""
    new = [pod for pod in pods if pod.generation == generation]
    ready = [pod for pod in new if pod.ready]
    reason = f"{len(ready)} of {max(len(pods), 1)} predictors are new and ready{_waiting_suffix(new)}"
    return RolloutStatus(done=False, reason=reason)


def suspects(pods: Sequence[PredictorPod], generation: str, keys: Sequence[VersionKey]) -> list[VersionKey]:
    """Return the versions an update may have failed for: those a new pod lacks; all if no new pod answers."""
    new = [pod for pod in pods if pod.generation == generation and pod.responds]
    return [key for key in keys if any(key not in pod.loaded for pod in new)] or list(keys)


def timeout_reason(pods: Sequence[PredictorPod], generation: str) -> str:
    """Return why an update did not complete in time."""
    new = [pod for pod in pods if pod.generation == generation]
    return f"the new predictors did not become ready in time{_waiting_suffix(new)}"


def _waiting_suffix(pods: Sequence[PredictorPod]) -> str:
    why = next((pod.waiting_reason for pod in pods if pod.waiting_reason), "")
    return f": {why}" if why else ""


def _started_at(generation: str) -> float:
    """Return seconds since the epoch; before all others for no generation, or one written by hand."""
    return int(generation) / 1000 if generation.isdecimal() else _NEVER
