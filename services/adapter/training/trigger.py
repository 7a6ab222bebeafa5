"""When to train: labels, commands, runs and the time in; Launch, Wait or Ignore out. Pure.

A webhook only makes a poll due earlier: at once in a quiet project, and later ones are polled together. What decides is the difference between Label Studio's labels now and those of the
baseline, the last run that was done, so a lost event, an edit, a deletion or a restart loses nothing. A run that was done on the
same labels, label config and parameters is never repeated, not even by a command; one that failed is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from services.core import documents
from services.core.domain import Command, Parameters, RunState
from services.core.errors import BadConfig, BadData, BadRequest

MAX_BURST: Final = 5
"""A stream of events without a pause counts as quiet after this many times the debounce."""
_POLL_SHARE: Final = 5
"""Polls that events cause are this many times as long apart as one takes, so that they leave Label Studio to its annotators."""
PERMANENT_FAILURES: Final = frozenset({BadRequest.exit_code, BadData.exit_code, BadConfig.exit_code})
"""Exit codes that would only recur with the same labels, config and settings."""
_FIRST_RETRY, _LAST_RETRY = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a run now; it answers `commands`."""

    cause: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Do not start a run now, and why; the commands stay."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """There is nothing to do, and why; this answers the commands."""

    reason: str


Decision = Launch | Wait | Ignore


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide."""

    every_n_updates: int
    min_seconds_between_runs: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """Label Studio as it was just polled, compared with the baseline: the labels of the last run that counts."""

    changed: int
    """Labelled tasks added, edited or removed since the baseline; all labelled ones if there is none."""
    lost_labels: tuple[str, ...]
    """Labels of the baseline that are no longer in the label config."""
    not_trainable: str | None
    """Why these labels cannot be trained on; None if they can."""
    fingerprint: str
    """Of labels, label config and parameters: the inputs of a run."""
    switched_control: str = ""
    """"the trained control changed from 'mood' to 'topic'", if the baseline is of another control; else ""."""
    oldest_change: float | None = None
    """When the oldest of the changed labels was made; None if none changed, or only removed ones did."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Events without a pause between them: seconds since the epoch."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended."""

    run: str
    fingerprint: str
    outcome: RunState
    exit_code: int | None = None
    ended_at: float = 0.0
    stale: bool = False
    """Its version was compared with one that is no longer served: the same labels are to be evaluated again."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision depends on, beside the observation, the policy and the time."""

    commands: tuple[str, ...] = ()
    """Ids of waiting TRAIN commands, oldest first."""
    active: str | None = None
    """The active run."""
    ended: tuple[EndedRun, ...] = ()
    """Ended runs, oldest first."""
    paused: bool = False
    disconnected: bool = False
    """No ML backend of the project in Label Studio has had our URL for a day."""


def decide(seen: Observation, situation: Situation, policy: Policy, now: float) -> Decision:
    """Decide whether a run starts now."""
    if situation.active:
        return Wait(f"run {situation.active} is active" + (", one more waits" if situation.commands else ""))
    if situation.paused:
        return Wait("paused: no run starts until `fitloop resume`")
    if seen.not_trainable:
        return Wait(seen.not_trainable)
    same = _same_run(seen, situation.ended)
    if same:
        unchanged = f"nothing has changed since run {same.run}: label more, or give other parameters"
        return Ignore(unchanged if situation.commands else progress(seen, policy))
    if situation.commands:
        return Launch("requested", situation.commands)
    return _decide_automatic(seen, situation, policy, now)


def still_asked(polled: Sequence[Command], waiting: Sequence[Command]) -> list[Command]:
    """Return the commands among `polled`, which were given before a poll began, that were not withdrawn since.

    One that a newer command for the same has replaced still counts: in a stream of requests, faster than polls, each is replaced
    before its poll has ended, and no run would ever start.
    """
    ids = {command.id for command in polled}
    newer = [command.parameters for command in waiting if command.id not in ids]
    left = {command.id for command in waiting}
    return [command for command in polled if command.id in left or command.parameters in newer]


def quiet_at(burst: Burst, debounce: float) -> float:
    """Return when a burst of events counts as over: after a pause of the debounce, or five times the debounce without one."""
    return min(burst.last + debounce, burst.first + MAX_BURST * debounce)


def event_poll_at(event: float, last: float, took: float, debounce: float) -> float:
    """Return when the first event since the last poll is polled: at once, unless events have caused a poll a moment ago.

    `last`: when that poll began, `took`: the seconds it took. The debounce lies between two of them, or more, up to five times as
    much, while Label Studio is slow or much has changed.
    """
    return max(event, last + min(max(debounce, _POLL_SHARE * took), MAX_BURST * debounce))


def fingerprint(digest: str, label_config_hash: str, parameters: Parameters) -> str:
    """Return 16 hex digits of a run's inputs; the names of its versions do not count. `digest`: of the label index."""
    nameless = documents.to_plain(replace(parameters, model_name=None))
    parts = [digest, label_config_hash, nameless]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def retry_at(past: tuple[EndedRun, ...]) -> float:
    """Return when a failed run may be retried: a minute after it ended, doubling with each failure in a row to an hour."""
    failures = failures_in_a_row(past)
    if not failures:
        return 0.0
    return past[-1].ended_at + min(_FIRST_RETRY * 2.0 ** min(failures - 1, 10), _LAST_RETRY)


def failures_in_a_row(past: tuple[EndedRun, ...]) -> int:
    """Return how many runs failed since the last one that did not."""
    return sum(1 for _ in takewhile(lambda ended: ended.outcome is RunState.FAILED, reversed(past)))


def _same_run(seen: Observation, past: tuple[EndedRun, ...]) -> EndedRun | None:
    """Return the last done run, if a run now would have the same inputs and its evaluation is still valid."""
    done = next((run for run in reversed(past) if run.outcome is RunState.DONE), None)
    if done is None or done.fingerprint != seen.fingerprint or _needs_reevaluation(past):
        return None
    return done


def _needs_reevaluation(past: tuple[EndedRun, ...]) -> bool:
    """Return whether the last done run is stale; once only, so that two stale ones in a row do not cause a third."""
    done = [ended for ended in past if ended.outcome is RunState.DONE][-2:]
    return bool(done) and done[-1].stale and not (len(done) > 1 and done[0].stale)


def _decide_automatic(seen: Observation, situation: Situation, policy: Policy, now: float) -> Decision:
    cause = _cause(seen, situation.ended, policy)
    if isinstance(cause, str) and situation.disconnected:
        cause = Wait(
            f"{cause}, but the project is disconnected in Label Studio: connect it, or `fitloop train`"
        )
    if isinstance(cause, Wait):
        return cause
    last = situation.ended[-1] if situation.ended else None
    if last and last.outcome is RunState.CANCELLED and last.fingerprint == seen.fingerprint:
        return Wait(f"run {last.run} was cancelled: waiting until labels change, or `fitloop train`")
    if last and last.outcome is RunState.FAILED:
        wait = _wait_after_failure(seen, situation.ended, last, now)
        if wait:
            return wait
    # The end is by another machine's clock, which may be ahead of this one's.
    left = min(last.ended_at, now) + policy.min_seconds_between_runs - now if last else 0.0
    if left > 0:
        return Wait(f"{cause}; the next run starts in {left:.0f} s at the earliest")
    return Launch(cause)


def _cause(seen: Observation, past: tuple[EndedRun, ...], policy: Policy) -> str | Wait:
    if seen.switched_control:
        return seen.switched_control
    if seen.lost_labels:
        names = ", ".join(repr(label) for label in seen.lost_labels)
        return f"removed from the label config or renamed there: {names}"
    if seen.changed >= policy.every_n_updates:
        return f"{seen.changed} labelled tasks changed"
    if past and past[-1].outcome is RunState.FAILED:
        return f"run {past[-1].run} failed"
    if past and past[-1].outcome is RunState.DONE and _needs_reevaluation(past):
        return f"the version of run {past[-1].run} was compared with one that is no longer served"
    return Wait(progress(seen, policy))


def progress(seen: Observation, policy: Policy) -> str:
    """Return how many of the changes that start a run there are."""
    return f"waiting: {seen.changed} of {policy.every_n_updates} labelled tasks changed"


def _wait_after_failure(
    seen: Observation, past: tuple[EndedRun, ...], last: EndedRun, now: float
) -> Wait | None:
    if last.exit_code in PERMANENT_FAILURES:
        if last.fingerprint == seen.fingerprint:
            return Wait(f"run {last.run} failed: waiting until labels, label config or settings change")
        return None
    again = retry_at(past)
    return Wait(f"run {last.run} failed: it is retried in {again - now:.0f} s") if now < again else None
