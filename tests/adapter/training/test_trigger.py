"""The rules of when to train, one by one and for any state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.training import trigger
from services.adapter.training.trigger import (
    Burst,
    EndedRun,
    Ignore,
    Launch,
    Observation,
    Policy,
    Situation,
    Wait,
    decide,
)
from services.core.domain import Action, Command, Parameters, RunState

POLICY = Policy(every_n_updates=10)
DEBOUNCE = 2.0
ENOUGH = Observation(changed=10, lost_labels=(), not_trainable=None, fingerprint="now")
FEW = Observation(changed=9, lost_labels=(), not_trainable=None, fingerprint="now")
NOW = 10_000.0


def build_ended_run(
    outcome: RunState,
    fingerprint: str = "before",
    *,
    code: int | None = 0,
    ended: float = NOW,
    stale: bool = False,
) -> EndedRun:
    return EndedRun("1-1", fingerprint, outcome, code, ended, stale)


def build_failed_run(code: int, fingerprint: str = "before", ended: float = NOW) -> EndedRun:
    return build_ended_run(RunState.FAILED, fingerprint, code=code, ended=ended)


def test_enough_changed_tasks_launch_and_too_few_wait() -> None:
    assert decide(ENOUGH, Situation(), POLICY, NOW) == Launch("10 labelled tasks changed")
    assert decide(FEW, Situation(), POLICY, NOW) == Wait("waiting: 9 of 10 labelled tasks changed")


def test_commands_launch_one_run() -> None:
    situation = Situation(commands=("a", "b"))
    assert decide(FEW, situation, POLICY, NOW) == Launch("requested", ("a", "b"))


def test_command_waits_while_a_run_is_active() -> None:
    assert decide(ENOUGH, Situation(active="1-1"), POLICY, NOW) == Wait("run 1-1 is active")
    waits = decide(ENOUGH, Situation(commands=("a",), active="1-1"), POLICY, NOW)
    assert waits == Wait("run 1-1 is active, one more waits")


def test_untrainable_labels_wait_with_the_reason() -> None:
    seen = Observation(20, (), "2 labels need examples; 1 has.", "now")
    assert decide(seen, Situation(commands=("a",)), POLICY, NOW) == Wait("2 labels need examples; 1 has.")


def test_minimum_time_between_runs() -> None:
    policy = Policy(every_n_updates=10, min_seconds_between_runs=60.0)
    before = (build_ended_run(RunState.DONE, ended=NOW - 20),)
    assert decide(ENOUGH, Situation(ended=before), policy, NOW) == Wait(
        "10 labelled tasks changed; the next run starts in 40 s at the earliest"
    )
    assert isinstance(decide(ENOUGH, Situation(ended=before), policy, NOW + 40), Launch)
    assert isinstance(decide(ENOUGH, Situation(ended=before, commands=("a",)), policy, NOW), Launch)


def test_clock_skew_delays_no_run() -> None:
    before = (build_ended_run(RunState.DONE, ended=NOW + 30),)
    assert isinstance(decide(ENOUGH, Situation(ended=before), POLICY, NOW), Launch)


def test_no_run_starts_while_paused() -> None:
    assert isinstance(decide(ENOUGH, Situation(commands=("a",), paused=True), POLICY, NOW), Wait)


def test_same_labels_are_trained_once() -> None:
    done = (build_ended_run(RunState.DONE, "now"),)
    same = Observation(0, (), None, "now")
    assert decide(same, Situation(ended=done), POLICY, NOW) == Ignore(
        "waiting: 0 of 10 labelled tasks changed"
    )
    ignored = decide(ENOUGH, Situation(ended=done, commands=("a",)), POLICY, NOW)
    assert ignored == Ignore("nothing has changed since run 1-1: label more, or give other parameters")


def test_removed_label_launches_with_few_changes() -> None:
    seen = Observation(0, ("loan",), None, "now")
    decision = decide(seen, Situation(ended=(build_ended_run(RunState.DONE),)), POLICY, NOW)
    assert decision == Launch("removed from the label config or renamed there: 'loan'")


@pytest.mark.parametrize("code", [64, 65, 78])
def test_permanent_failure_waits_until_something_changes(code: int) -> None:
    same = Situation(ended=(build_failed_run(code, "now", ended=0.0),))
    assert decide(ENOUGH, same, POLICY, NOW) == Wait(
        "run 1-1 failed: waiting until labels, label config or settings change"
    )
    assert decide(FEW, Situation(ended=(build_failed_run(code, ended=0.0),)), POLICY, NOW) == Launch(
        "run 1-1 failed"
    )
    assert isinstance(
        decide(ENOUGH, Situation(ended=(build_failed_run(code, "now"),), commands=("a",)), POLICY, NOW),
        Launch,
    )


@pytest.mark.parametrize(("failures", "seconds"), [(1, 60), (2, 120), (3, 240), (7, 3600), (40, 3600)])
def test_other_failures_are_retried_with_backoff(failures: int, seconds: float) -> None:
    situation = Situation(ended=(build_ended_run(RunState.DONE), *[build_failed_run(1)] * failures))
    assert decide(FEW, situation, POLICY, NOW + seconds - 1) == Wait("run 1-1 failed: it is retried in 1 s")
    assert decide(FEW, situation, POLICY, NOW + seconds) == Launch("run 1-1 failed")


def test_nothing_is_retried_after_a_done_run() -> None:
    assert trigger.retry_at((build_failed_run(1), build_ended_run(RunState.DONE))) == 0.0


def test_cancelled_run_waits_for_labels_or_a_command() -> None:
    cancelled = (build_ended_run(RunState.CANCELLED, "now"),)
    assert isinstance(decide(ENOUGH, Situation(ended=cancelled), POLICY, NOW), Wait)
    assert isinstance(decide(ENOUGH, Situation(ended=cancelled, commands=("a",)), POLICY, NOW), Launch)
    assert isinstance(
        decide(ENOUGH, Situation(ended=(build_ended_run(RunState.CANCELLED),)), POLICY, NOW), Launch
    )


def test_stale_version_is_evaluated_again_once() -> None:
    stale = build_ended_run(RunState.DONE, "now", stale=True)
    decision = decide(FEW, Situation(ended=(build_ended_run(RunState.DONE), stale)), POLICY, NOW)
    assert decision == Launch("the version of run 1-1 was compared with one that is no longer served")
    assert isinstance(decide(FEW, Situation(ended=(stale, stale)), POLICY, NOW), Ignore)


def test_fingerprint_depends_on_labels_config_and_parameters() -> None:
    prints = {
        trigger.fingerprint("digest", "hash", Parameters()),
        trigger.fingerprint("another", "hash", Parameters()),
        trigger.fingerprint("digest", "other", Parameters()),
        trigger.fingerprint("digest", "hash", Parameters(seed=1)),
    }
    assert len(prints) == 4
    named = Parameters(model_name="support")
    assert trigger.fingerprint("d", "h", named) == trigger.fingerprint("d", "h", Parameters())


PASTS = st.builds(
    EndedRun,
    run=st.sampled_from(["1-1", "1-2"]),
    fingerprint=st.sampled_from(["now", "before"]),
    outcome=st.sampled_from([RunState.DONE, RunState.FAILED, RunState.CANCELLED]),
    exit_code=st.sampled_from([None, 0, 1, 64, 65, 75, 78]),
    ended_at=st.floats(0.0, NOW),
    stale=st.booleans(),
)
SITUATIONS = st.builds(
    Situation,
    commands=st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple),
    active=st.none() | st.just("1-9"),
    ended=st.lists(PASTS, max_size=4).map(tuple),
    paused=st.booleans(),
)
SEEN = st.builds(
    Observation,
    changed=st.integers(0, 30),
    lost_labels=st.sampled_from([(), ("loan",)]),
    not_trainable=st.none() | st.just("too few"),
    fingerprint=st.just("now"),
)


@given(SEEN, SITUATIONS)
def test_no_launch_while_active_paused_or_untrainable(seen: Observation, situation: Situation) -> None:
    decision = decide(seen, situation, POLICY, NOW)
    if isinstance(decision, Launch):
        assert not situation.active
        assert not situation.paused
        assert not seen.not_trainable
        assert decision.commands == situation.commands


@given(SEEN, SITUATIONS)
def test_wait_with_enough_changes_ends(seen: Observation, situation: Situation) -> None:
    """With the run ended, the pause over and all delays past, only a run on these labels is a reason to wait."""
    free = Situation(commands=situation.commands, ended=situation.ended)
    decision = decide(seen, free, POLICY, NOW + 4_000.0)
    if seen.changed >= POLICY.every_n_updates and not seen.not_trainable and not isinstance(decision, Launch):
        assert any(ended.fingerprint == seen.fingerprint for ended in situation.ended)


@given(st.lists(st.floats(0.01, 1.9), min_size=20, max_size=60))
def test_steady_events_count_as_quiet_within_five_debounces(gaps: list[float]) -> None:
    first = last = NOW
    for gap in gaps:
        last += gap
        assert trigger.quiet_at(Burst(first, last), DEBOUNCE) <= first + 5 * DEBOUNCE
        assert trigger.quiet_at(Burst(first, last), DEBOUNCE) <= last + DEBOUNCE


@given(st.floats(0.0, 60.0), st.floats(0.0, 60.0), st.floats(0.0, 5.0))
def test_events_are_polled_at_once_in_a_quiet_project_and_together_later(
    since: float, took: float, debounce: float
) -> None:
    at = trigger.event_poll_at(NOW, NOW - since, took, debounce)
    rounding = 1e-6
    assert NOW <= at <= NOW + 5 * debounce + rounding
    assert at == NOW or at - (NOW - since) >= debounce - rounding
    if since >= 5 * debounce or (since >= debounce and since >= 5 * took):
        assert at <= NOW + rounding


@given(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.floats(0.1, 5.0))
def test_each_label_is_trained_on_with_n_of_1(submits: list[int], seconds: float) -> None:
    """Whenever labels come, none is left untrained, and a run never starts while another is active."""
    policy, now, trained, labelled = Policy(every_n_updates=1), NOW, 0, 0
    active_until: float | None = None
    runs = 0
    for count in [*submits, 0, 0]:
        labelled += count
        if active_until is not None and now >= active_until:
            active_until = None
        seen = replace(FEW, changed=labelled - trained, fingerprint=str(labelled))
        done = (build_ended_run(RunState.DONE, str(trained), ended=now),) if trained else ()
        active = "1-1" if active_until is not None else None
        decision = decide(seen, Situation(active=active, ended=done), policy, now)
        assert isinstance(decision, Launch) == (active is None and labelled > trained)
        if isinstance(decision, Launch):
            trained, active_until, runs = labelled, now + seconds, runs + 1
        now += 2 * seconds if not count else 1.0
    assert trained == labelled


def test_withdrawn_command_no_longer_counts_and_a_replaced_one_does() -> None:
    first, second, other = (
        Command("1", 5, Action.TRAIN),
        Command("2", 5, Action.TRAIN),
        Command("3", 5, Action.TRAIN, parameters={"seed": "1"}),
    )
    assert trigger.still_asked([first, other], [first]) == [first]
    assert trigger.still_asked([first, other], [second]) == [first]
    assert trigger.still_asked([first], [other]) == []
    assert trigger.still_asked([], [first]) == []
