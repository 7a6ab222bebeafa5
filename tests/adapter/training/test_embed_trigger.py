"""embed_trigger: features are computed when texts lack them, and never at the cost of a training run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.training.embed_trigger import (
    Cancel,
    EmbedSituation,
    EndedEmbed,
    KnownPool,
    Rest,
    Start,
    decide,
    fingerprint,
    retry_at,
)
from services.core.domain import LabelSpace, Method, Parameters, PoolState, RunState

NOW = 1_790_000_000.0
SPACE = LabelSpace("mood", "text", "$text", ("good", "bad"))
CONNECTED = EmbedSituation(300.0, "f", tasks=100, unlabelled=90, method=Method.AUTO)
COMPLETE = replace(CONNECTED, known=KnownPool(PoolState(90, 0, 100, 90), "f", is_of_embed=True))
FAILED = EndedEmbed(RunState.FAILED, 1, NOW, "f", 100, 1)

_POOLS = st.builds(
    KnownPool,
    st.builds(PoolState, *[st.integers(0, 3)] * 4),
    st.sampled_from(["f", "g"]),
    st.booleans(),
)
_ENDS = st.builds(
    EndedEmbed,
    st.sampled_from([RunState.DONE, RunState.FAILED, RunState.CANCELLED]),
    st.sampled_from([0, 1, 65, 75, None]),
    st.floats(NOW - 9000, NOW + 100),
    st.sampled_from(["f", "g"]),
    st.integers(0, 3),
    st.integers(1, 20),
)
SITUATIONS = st.builds(
    EmbedSituation,
    seconds=st.sampled_from([0.0, 300.0]),
    fingerprint=st.just("f"),
    tasks=st.integers(0, 3),
    unlabelled=st.integers(0, 3),
    method=st.sampled_from(Method),
    names=st.sampled_from(["", "wanted"]),
    known=st.none() | _POOLS,
    last=st.none() | _ENDS,
    active=st.none() | st.just("1-embed-1"),
    is_training=st.booleans(),
    is_quiet=st.booleans(),
    paused=st.booleans(),
    disconnected=st.booleans(),
    has_turn=st.booleans(),
)


def _pool(situation: EmbedSituation = COMPLETE, **state: Any) -> EmbedSituation:
    known = situation.known
    assert known is not None
    is_of_embed = state.pop("is_of_embed", True)
    changed = KnownPool(replace(known.state, **state), known.fingerprint, is_of_embed)
    return replace(situation, known=changed)


@given(SITUATIONS)
def test_training_always_comes_first(situation: EmbedSituation) -> None:
    found = decide(situation, NOW)
    if situation.is_training or not situation.has_turn:
        assert isinstance(found, Cancel if situation.active else Rest)
    if not situation.seconds and not situation.active:
        assert found == Rest()
    if isinstance(found, Start):
        assert situation.active is None
        assert not situation.paused
        assert situation.unlabelled


@given(SITUATIONS)
def test_finished_work_is_not_repeated(situation: EmbedSituation) -> None:
    """Once a run has done what a Start asked for, the same project rests."""
    if not isinstance(decide(situation, NOW), Start):
        return
    done = PoolState(situation.unlabelled, 0, max(1, situation.tasks), situation.unlabelled)
    after = replace(situation, known=KnownPool(done, situation.fingerprint, is_of_embed=True), names="")
    assert decide(after, NOW) == Rest()


def test_connected_project_gets_features() -> None:
    assert decide(CONNECTED, NOW) == Start("the unlabelled texts have no features")
    assert decide(COMPLETE, NOW) == Rest()


@pytest.mark.parametrize(
    ("situation", "cause"),
    [
        (replace(COMPLETE, tasks=130), "30 tasks were added"),
        (replace(COMPLETE, fingerprint="g"), "the base model or the text of the tasks has changed"),
        (_pool(left=7), "7 texts have no features"),
        (_pool(left=7, computed=0, is_of_embed=False), "7 texts have no features"),
        (_pool(counted=0), "not all tasks were read"),
    ],
)
def test_whatever_lacks_features_starts_a_run(situation: EmbedSituation, cause: str) -> None:
    assert decide(situation, NOW) == Start(cause)


@pytest.mark.parametrize(
    "situation",
    [
        replace(CONNECTED, seconds=0.0),
        replace(CONNECTED, unlabelled=0),
        replace(CONNECTED, method=Method.FINETUNE),
        replace(COMPLETE, tasks=80),
        _pool(left=7, computed=0),
    ],
    ids=["turned off", "all labelled", "weights of its own", "tasks deleted", "nothing more to compute"],
)
def test_nothing_to_compute_starts_nothing(situation: EmbedSituation) -> None:
    assert decide(situation, NOW) == Rest()


@pytest.mark.parametrize("method", Method)
def test_version_from_label_names_starts_a_run_for_any_method(method: Method) -> None:
    wanted = replace(COMPLETE, method=method, names="there are no suggestions yet")
    assert decide(wanted, NOW) == Start("there are no suggestions yet")
    for change in ({"seconds": 0.0}, {"unlabelled": 0}):
        assert decide(replace(wanted, **change), NOW) == Rest()


@pytest.mark.parametrize("change", [{"paused": True}, {"disconnected": True}, {"is_quiet": False}])
def test_run_waits_for_a_better_moment(change: dict[str, Any]) -> None:
    found = decide(replace(CONNECTED, **change), NOW)
    assert isinstance(found, Rest)
    assert found.reason.startswith("the unlabelled texts have no features")


@pytest.mark.parametrize("change", [{"is_training": True}, {"has_turn": False}, {"paused": True}])
def test_active_run_gives_way(change: dict[str, Any]) -> None:
    active = replace(CONNECTED, active="1-embed-1")
    assert isinstance(decide(active, NOW), Rest)
    assert isinstance(decide(replace(active, **change), NOW), Cancel)


def test_failed_run_is_repeated_ever_more_seldom() -> None:
    waits = [retry_at(replace(FAILED, failures=failures)) - NOW for failures in (1, 2, 3, 30)]
    assert waits == [60.0, 120.0, 240.0, 3600.0]
    failed = replace(CONNECTED, last=FAILED)
    assert isinstance(decide(failed, NOW + 59), Rest)
    assert isinstance(decide(failed, NOW + 60), Start)


def test_permanent_failure_waits_for_a_change() -> None:
    failed = replace(CONNECTED, last=replace(FAILED, exit_code=78))
    assert isinstance(decide(failed, NOW + 99_999), Rest)
    assert isinstance(decide(replace(failed, tasks=101), NOW), Start)
    assert isinstance(decide(replace(failed, fingerprint="g"), NOW), Start)


def test_cancelled_run_is_repeated() -> None:
    cancelled = replace(FAILED, outcome=RunState.CANCELLED, exit_code=None)
    assert isinstance(decide(replace(CONNECTED, last=cancelled), NOW), Start)


def test_features_depend_on_base_model_length_and_text() -> None:
    one = fingerprint(SPACE, Parameters())
    assert fingerprint(replace(SPACE, labels=("x",)), Parameters(seed=3)) == one
    assert fingerprint(replace(SPACE, text_value="$body"), Parameters()) != one
    assert fingerprint(SPACE, Parameters(base_model="other")) != one
    assert fingerprint(SPACE, Parameters(max_length=64)) != one
