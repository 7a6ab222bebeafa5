"""The rules of promotion, one by one and for any situation; the last test applies them step by step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.serving.manifest_cache import Origin
from services.adapter.serving.promotion import (
    Candidate,
    Decision,
    Evaluation,
    Hold,
    Promote,
    ServedState,
    Situation,
    Wait,
    decide,
    next_to_decide,
)
from services.adapter.state.documents import PromotionResult
from services.core.domain import Published, Served

SERVED = Served("v1", previous="v0")
NOW = Situation(1, SERVED, served_created_at=100.0)


def build_candidate(
    version: str = "v2",
    compared_with: str | None = "v1",
    *,
    promote: bool = True,
    created_at: float = 200.0,
    control: str | None = None,
) -> Candidate:
    published = Published(version, promote, f"Gate of {version}.")
    return Candidate(published, Evaluation(compared_with, created_at), control)


def result(decision: Decision) -> PromotionResult | None:
    return decision.result if isinstance(decision, Hold) else None


def test_version_compared_with_the_served_one_is_promoted() -> None:
    assert decide(build_candidate(), NOW) == Promote("Gate of v2.")


def test_first_version_is_promoted() -> None:
    assert decide(build_candidate("v1", None), Situation(1, Served())) == Promote("Gate of v1.")


def test_served_version_is_recorded_as_promoted() -> None:
    pinned = replace(NOW, served=replace(SERVED, pinned=True), falling_back=True)
    assert decide(build_candidate("v1", None), pinned) == Hold(PromotionResult.PROMOTED, "Gate of v1.")


@pytest.mark.parametrize("sentence", ["Held: no better.", ""])
def test_gate_holds_a_version(sentence: str) -> None:
    held = Candidate(Published("v2", False, sentence), None)
    assert decide(held, NOW) == Hold(PromotionResult.HELD, sentence)


def test_pin_holds_a_version() -> None:
    found = decide(build_candidate(), replace(NOW, served=replace(SERVED, pinned=True)))
    assert found == Hold(PromotionResult.HELD, "held because pinned: v1 stays until `fitloop unpin 1`")


@pytest.mark.parametrize(
    ("requested", "in_use", "held"),
    [("topic", "tone", True), ("topic", "topic", False), (None, "tone", False), ("topic", None, False)],
)
def test_version_for_another_control_is_held(requested: str | None, in_use: str | None, held: bool) -> None:
    found = decide(build_candidate(control=requested), replace(NOW, control=in_use))
    assert result(found) is (PromotionResult.HELD if held else None)


def test_unusable_manifest_is_refused() -> None:
    broken = replace(build_candidate(), evaluation=None, problem="Its manifest is broken.")
    assert decide(broken, NOW) == Hold(
        PromotionResult.REFUSED, "v2 was refused: Its manifest is broken. v1 stays."
    )
    assert result(decide(broken, Situation(1, Served()))) is PromotionResult.REFUSED


def test_version_waits_for_the_fall_back() -> None:
    assert decide(build_candidate(), replace(NOW, falling_back=True)) == Wait(
        "v1 is broken and is being replaced by v0"
    )


def test_older_version_is_superseded() -> None:
    found = decide(build_candidate(compared_with="v0", created_at=99.0), NOW)
    assert found == Hold(PromotionResult.HELD, "held: v1 is newer than v2 and is served already")


@pytest.mark.parametrize(
    ("state", "expected"),
    [(ServedState.OK, Hold), (ServedState.CHECKING, Wait), (ServedState.BROKEN, Promote)],
)
def test_version_compared_with_nothing_replaces_a_broken_one(
    state: ServedState, expected: type[Decision]
) -> None:
    found = decide(build_candidate(compared_with=None), replace(NOW, served_state=state))
    assert isinstance(found, expected)
    assert result(found) in {None, PromotionResult.STALE}


def test_rollout_in_progress_goes_on_while_predictors_are_asked() -> None:
    asking = replace(NOW, served_state=ServedState.CHECKING, target="v2")
    assert isinstance(decide(build_candidate(compared_with=None), asking), Promote)
    assert result(decide(build_candidate(compared_with="v0"), asking)) is PromotionResult.STALE


FROM_NAMES = replace(
    build_candidate(compared_with=None), evaluation=Evaluation(None, 200.0, is_trained=False)
)


@pytest.mark.parametrize("state", ServedState)
def test_version_from_label_names_replaces_no_trained_one(state: ServedState) -> None:
    found = decide(FROM_NAMES, replace(NOW, served_state=state))
    assert result(found) is PromotionResult.HELD


def test_version_from_label_names_is_served_before_any_other() -> None:
    assert isinstance(decide(FROM_NAMES, Situation(1, Served())), Promote)
    assert isinstance(decide(FROM_NAMES, replace(NOW, served_origin=Origin.NAMES)), Promote)
    newer = replace(NOW, served_origin=Origin.NAMES, served_created_at=300.0)
    assert result(decide(FROM_NAMES, newer)) is PromotionResult.HELD
    pinned = replace(NOW, served_origin=Origin.NAMES, served=replace(SERVED, pinned=True))
    assert result(decide(FROM_NAMES, pinned)) is PromotionResult.HELD


@pytest.mark.parametrize("state", ServedState)
def test_one_without_manifest_is_replaced(state: ServedState) -> None:
    lost = replace(NOW, served_state=state, served_origin=Origin.LOST)
    assert isinstance(decide(FROM_NAMES, lost), Promote)
    assert isinstance(decide(build_candidate(compared_with=None), lost), Promote)


@pytest.mark.parametrize("state", ServedState)
def test_it_waits_while_the_served_manifest_is_not_read(state: ServedState) -> None:
    unknown = replace(NOW, served_state=state, served_origin=Origin.UNKNOWN)
    assert isinstance(decide(FROM_NAMES, unknown), Wait)


def test_trained_version_replaces_one_that_it_was_compared_with() -> None:
    serving = replace(NOW, served_origin=Origin.NAMES)
    assert isinstance(decide(build_candidate(), serving), Promote)
    assert result(decide(build_candidate(compared_with=None), serving)) is PromotionResult.STALE


@pytest.mark.parametrize("state", ServedState)
def test_version_compared_with_another_one_is_stale(state: ServedState) -> None:
    found = decide(build_candidate(compared_with="v0"), replace(NOW, served_state=state))
    assert result(found) is PromotionResult.STALE


def test_newest_is_decided_first() -> None:
    assert next_to_decide([build_candidate("v2"), build_candidate("v3")]).version == "v3"


def test_version_is_decided_after_the_one_it_was_compared_with() -> None:
    candidates = [build_candidate("v2"), build_candidate("v3", "v2"), build_candidate("v4", "v3")]
    assert next_to_decide(candidates).version == "v2"


versions = st.sampled_from(["v0", "v1", "v2", "v3"])
candidates = st.builds(
    Candidate,
    st.builds(Published, versions, st.booleans(), st.sampled_from(["", "why"])),
    st.none() | st.builds(Evaluation, st.none() | versions, st.sampled_from([50.0, 100.0, 150.0])),
    st.sampled_from([None, "topic", "tone"]),
)
situations = st.builds(
    Situation,
    st.just(1),
    st.builds(
        Served,
        st.none() | versions,
        previous=st.none() | versions,
        target=st.none() | versions,
        pinned=st.booleans(),
    ),
    st.sampled_from(ServedState),
    st.none() | versions,
    st.none() | st.sampled_from([50.0, 100.0, 150.0]),
    st.sampled_from([None, "topic", "tone"]),
    st.booleans(),
)


@given(candidates, situations)
def test_only_a_justified_version_is_promoted(candidate: Candidate, now: Situation) -> None:
    if not isinstance(decide(candidate, now), Promote):
        return
    assert candidate.published.promote
    assert not now.served.pinned
    assert not now.falling_back
    assert now.control is None or candidate.control in {None, now.control}
    assert candidate.evaluation is not None
    compared_with, current = candidate.evaluation.compared_with, now.served.current
    goes_on = now.served_state is ServedState.CHECKING and now.target == candidate.version
    replaces_broken = compared_with is None and (now.served_state is ServedState.BROKEN or goes_on)
    assert compared_with == current or replaces_broken
    if compared_with != current and now.served_created_at is not None:
        assert candidate.evaluation.created_at >= now.served_created_at


@given(candidates, situations)
def test_promotion_goes_on_as_a_target(candidate: Candidate, now: Situation) -> None:
    """Once it is the target, predictors that do not answer do not stop it."""
    if isinstance(decide(candidate, now), Promote):
        state = ServedState.CHECKING if now.served_state is ServedState.BROKEN else now.served_state
        after = replace(now, target=candidate.version, served_state=state)
        assert decide(candidate, after) == decide(candidate, now)


@given(candidates, situations)
def test_decision_stands_once_applied(candidate: Candidate, now: Situation) -> None:
    decision = decide(candidate, now)
    assert decide(candidate, now) == decision
    if isinstance(decision, Promote):
        served = Served(candidate.version, now.served.current, why=decision.reason)
        created_at = candidate.evaluation.created_at if candidate.evaluation else None
        after = replace(now, served=served, served_created_at=created_at)
        assert decide(candidate, after) == Hold(PromotionResult.PROMOTED, decision.reason)


@given(candidates, situations)
def test_waiting_ends_with_what_is_waited_for(candidate: Candidate, now: Situation) -> None:
    settled = replace(now, falling_back=False, served_state=ServedState.OK)
    assert not isinstance(decide(candidate, settled), Wait)


@given(st.lists(candidates, min_size=1, max_size=4, unique_by=lambda one: one.version), situations)
def test_every_version_gets_one_outcome(waiting: list[Candidate], now: Situation) -> None:
    """Apply each promotion at once: all are decided, and each that was promoted was compared with the one before it."""
    now = replace(now, falling_back=False, served_state=ServedState.OK)
    left, promoted, created = list(waiting), [now.served.current], {}
    while left:
        candidate = next_to_decide(left)
        left.remove(candidate)
        if isinstance(decide(candidate, now), Promote):
            assert candidate.evaluation is not None
            created[candidate.version] = candidate.evaluation
            promoted.append(candidate.version)
            served = Served(candidate.version, now.served.current)
            now = replace(now, served=served, served_created_at=candidate.evaluation.created_at)
    for before, after in pairwise(promoted):
        assert created[after or ""].compared_with == before
