"""When to train: labels, commands, runs and the time in; Launch, Wait or Ignore out. Pure.

A webhook is only a hint. What decides is the difference between Label Studio's labels now and the snapshot of the last
run that was carried through, so a lost event, an edit, a deletion or a restart loses nothing. A run that was carried
through on the same labels, label config and parameters is never repeated, not even by a command; one that failed is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from services.core import documents
from services.core.domain import Parameters, RunState, Snapshot
from services.core.errors import BadConfig, BadData, BadRequest

MAX_BURST: Final = 5
"""A stream of events that never pauses is looked at after this many times the debounce."""
PERMANENT_FAILURES: Final = frozenset({BadRequest.exit_code, BadData.exit_code, BadConfig.exit_code})
"""Exit codes that the same labels, config and settings would only meet again."""
_FIRST_RETRY, _LAST_RETRY = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a run now; it answers `commands`."""

    cause: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now, and why; the commands stay."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """There is nothing to do, and why; the commands are answered by this."""

    reason: str


Decision = Launch | Wait | Ignore


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide."""

    every_n_updates: int
    debounce_seconds: float
    min_seconds_between_runs: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """Label Studio as it was just read, beside the baseline: the last snapshot that counts."""

    changed: int
    """Labelled tasks added, edited or removed since the baseline; all labelled ones where there is none."""
    lost_labels: tuple[str, ...]
    """Labels of the baseline that the label config no longer has."""
    not_trainable: str | None
    """Why these labels cannot be trained on; None: they can."""
    fingerprint: str
    """Of labels, label config and parameters: what a run would be made from."""
    switched_control: str = ""
    """"'topic' is learnt now, and 'mood' was before", where the baseline is of another control; else ""."""
    oldest_change: float | None = None
    """When the oldest of the changed labels was made; None where none waits, or only removed ones do."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Events since the labels were last looked at: seconds since the epoch."""

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
    """Its version was compared with one that no longer serves: the same labels are to be judged afresh."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on, but for the observation, the policy and the time."""

    commands: tuple[str, ...] = ()
    """Ids of waiting TRAIN commands, oldest first."""
    active: str | None = None
    """The run that is going on."""
    ended: tuple[EndedRun, ...] = ()
    """Ended runs, oldest first."""
    burst: Burst | None = None
    paused: bool = False


def decide(seen: Observation, situation: Situation, policy: Policy, now: float) -> Decision:
    """Launch, Wait or Ignore."""
    if situation.active:
        return Wait(
            f"run {situation.active} is going on" + (", one more waits" if situation.commands else "")
        )
    if situation.paused:
        return Wait("paused: no run begins until `fitloop resume`")
    if seen.not_trainable:
        return Wait(seen.not_trainable)
    same = _same_run(seen, situation.ended)
    if same:
        asked = f"nothing has changed since run {same.run}: label more, or give other parameters"
        return Ignore(asked if situation.commands else progress(seen, policy))
    if situation.commands:
        return Launch("asked for", situation.commands)
    return _decide_automatic(seen, situation, policy, now)


def quiet_at(burst: Burst, policy: Policy) -> float:
    """When a burst of events is looked at: after a quiet spell, or after five such spells without one."""
    return min(burst.last + policy.debounce_seconds, burst.first + MAX_BURST * policy.debounce_seconds)


def changed_tasks(tasks: Mapping[int, str], baseline: Snapshot | None) -> set[int]:
    """Tasks (id to signature) added, edited or removed since the baseline."""
    before = {} if baseline is None else {int(task): said for task, said in baseline.tasks.items()}
    return {task for task in tasks.keys() | before.keys() if tasks.get(task) != before.get(task)}


def lost_labels(labels: tuple[str, ...], baseline: Snapshot | None) -> tuple[str, ...]:
    """The baseline's labels that the label config has no more."""
    return () if baseline is None else tuple(label for label in baseline.labels if label not in labels)


def switched_control(control: str | None, baseline: Snapshot | None) -> str:
    """That the baseline's labels were answers to another control; "" where they were not, or where that is not known."""
    before = baseline.from_name if baseline else ""
    return (
        f"{control!r} is learnt now, and {before!r} was before"
        if control and before not in {"", control}
        else ""
    )


def fingerprint(tasks: Mapping[str, str], label_config_hash: str, parameters: Parameters) -> str:
    """Sixteen hex digits of all that a run is made from; what its versions are called makes no other model."""
    nameless = documents.to_plain(replace(parameters, model_name=None))
    parts = [sorted(tasks.items()), label_config_hash, nameless]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def retry_at(past: tuple[EndedRun, ...]) -> float:
    """When a failed run may be tried again: a minute after it ended, doubling with each failure in a row to an hour."""
    failures = failures_in_a_row(past)
    if not failures:
        return 0.0
    return past[-1].ended_at + min(_FIRST_RETRY * 2.0 ** min(failures - 1, 10), _LAST_RETRY)


def failures_in_a_row(past: tuple[EndedRun, ...]) -> int:
    """Runs that failed since the last one that did not."""
    return sum(1 for _ in takewhile(lambda ended: ended.outcome is RunState.FAILED, reversed(past)))


def _same_run(seen: Observation, past: tuple[EndedRun, ...]) -> EndedRun | None:
    """The last run that was carried through, where it read what one would read now and its judgement holds."""
    carried = _last_done(past)
    if carried is None or carried.fingerprint != seen.fingerprint or _needs_reevaluation(past):
        return None
    return carried


def _needs_reevaluation(past: tuple[EndedRun, ...]) -> bool:
    """Whether the last run carried through is stale; once only, so that two stale ones in a row do not make a third."""
    done = [ended for ended in past if ended.outcome is RunState.DONE][-2:]
    return bool(done) and done[-1].stale and not (len(done) > 1 and done[0].stale)


def _last_done(past: tuple[EndedRun, ...]) -> EndedRun | None:
    return next((ended for ended in reversed(past) if ended.outcome is RunState.DONE), None)


def _decide_automatic(seen: Observation, situation: Situation, policy: Policy, now: float) -> Decision:
    cause = _cause(seen, situation.ended, policy)
    if isinstance(cause, Wait):
        return cause
    last = situation.ended[-1] if situation.ended else None
    if last and last.outcome is RunState.CANCELLED and last.fingerprint == seen.fingerprint:
        return Wait(f"run {last.run} was cancelled: waiting until labels change, or `fitloop train`")
    if last and last.outcome is RunState.FAILED:
        waits = _wait_after_failure(seen, situation.ended, last, now)
        if waits:
            return waits
    # The end was told by another machine's clock, which may be ahead of this one's.
    left = min(last.ended_at, now) + policy.min_seconds_between_runs - now if last else 0.0
    if left > 0:
        return Wait(f"{cause}; the next run begins {left:.0f} s from now at the earliest")
    if situation.burst and now < quiet_at(situation.burst, policy):
        return Wait(f"{cause}; waiting for a quiet moment")
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
        return f"the version of run {past[-1].run} was compared with one that no longer serves"
    return Wait(progress(seen, policy))


def progress(seen: Observation, policy: Policy) -> str:
    """How many changes there are of those that launch a run."""
    return f"waiting: {seen.changed} of {policy.every_n_updates} labelled tasks changed"


def _wait_after_failure(
    seen: Observation, past: tuple[EndedRun, ...], last: EndedRun, now: float
) -> Wait | None:
    if last.exit_code in PERMANENT_FAILURES:
        if last.fingerprint == seen.fingerprint:
            return Wait(f"run {last.run} failed: waiting until labels, label config or settings change")
        return None
    again = retry_at(past)
    return Wait(f"run {last.run} failed: it is tried again in {again - now:.0f} s") if now < again else None
