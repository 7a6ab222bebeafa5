"""core.annotations: what several annotations come to, and whether labels allow a model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.labels import parse_labels
from services.core.labels.annotations import (
    Vote,
    _resolve_many,
    decide,
    exclusion_cause,
    parse_timestamp,
    resolve,
)
from services.core.labels.uncounted import ANNOTATION_REASONS as WORDS
from services.core.labels.uncounted import Cause

SPACE = LabelSpace("c", "t", "$body", ("A", "B", "C"), shown={"Alpha": "A"})


def build_annotation(label: str, number: int = 1, **more: Any) -> dict[str, Any]:
    """Build an annotation as Label Studio sends it; by default each has its own annotator."""
    region = {"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": [label]}}
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    return {"id": number, "completed_by": number, "result": [region], "was_cancelled": False, **times, **more}


def at(second: str) -> str:
    return f"2026-01-01T00:00:{second}Z"


def test_one_annotation_is_the_label() -> None:
    found = resolve(SPACE, [build_annotation("A", 7)])
    assert (found.label, found.reason, found.annotation_ids, found.dropped) == ("A", "", (7,), {})


def test_no_annotation_is_no_label() -> None:
    assert resolve(SPACE, []).reason == "nothing"
    assert resolve(SPACE, [build_annotation("A", was_cancelled=True)]).reason == "nothing"


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (build_annotation("A"), ""),
        (build_annotation("A", was_cancelled=True), "cancelled"),
        (build_annotation("A", result=[]), "empty"),
        (build_annotation("A", result=None), "empty"),
        (build_annotation("A", result="A"), "malformed"),
        (build_annotation("A", result=[7, {"value": {"choices": ["A"]}}]), "malformed"),
        (build_annotation("A", result=[{"from_name": "c", "value": {"choices": [None]}}]), "malformed"),
        (build_annotation("A", result=[{"from_name": "c", "value": {"choices": [True]}}]), "malformed"),
        (build_annotation("A", result=[{"from_name": "c", "value": {"choices": []}}]), "empty"),
        (build_annotation("A", result=[{"from_name": "c", "value": None}]), "empty"),
        (
            build_annotation("A", result=[{"from_name": "other", "value": {"choices": ["A"]}}]),
            "other_control",
        ),
        (build_annotation("gone"), "foreign_label"),
        (build_annotation("a"), "other_spelling"),
        (build_annotation(" A "), "other_spelling"),
        (build_annotation("\uff21"), "other_spelling"),
        (build_annotation("Alpha"), "value_for_alias"),
        (build_annotation("alpha"), "other_spelling"),
        (
            build_annotation("A", result=[{"from_name": "c", "value": {"choices": ["A", "B"]}}]),
            "several_labels",
        ),
        (
            build_annotation("A", result=[{"from_name": "c", "value": {"choices": ["A", "gone"]}}]),
            "several_labels",
        ),
        (None, "malformed"),
        ("A", "malformed"),
        (7, "malformed"),
    ],
)
def test_empty_annotations_are_dropped_with_a_reason(annotation: Any, reason: str) -> None:
    cause = exclusion_cause(SPACE, annotation)
    assert (cause.reason if cause else "") == reason
    found = resolve(SPACE, [annotation, build_annotation("B", 2, ground_truth=True)])
    assert found.dropped == {reason or "outvoted": 1}


def test_an_annotators_latest_label_counts() -> None:
    earlier, later = (
        build_annotation("A", 1, completed_by=5, updated_at=at("54.3")),
        build_annotation("B", 2, completed_by=5, updated_at=at("55")),
    )
    found = resolve(SPACE, [later, earlier])
    assert (found.label, found.annotation_ids, found.dropped) == ("B", (2,), {"superseded": 1})


def test_a_whole_second_comes_before_its_fractions() -> None:
    """Label Studio leaves `.000000` out, so that times do not sort as strings."""
    earlier, later = (
        build_annotation("A", 1, completed_by=5, updated_at=at("54")),
        build_annotation("B", 2, completed_by=5, updated_at=at("54.3")),
    )
    assert resolve(SPACE, [later, earlier]).label == "B"


def test_at_one_time_the_higher_id_is_later() -> None:
    assert (
        resolve(
            SPACE, [build_annotation("B", 10, completed_by=5), build_annotation("A", 9, completed_by=5)]
        ).label
        == "B"
    )


def test_a_skip_keeps_an_annotators_label() -> None:
    skip = build_annotation("B", 2, completed_by=1, was_cancelled=True, updated_at=at("59"))
    assert resolve(SPACE, [build_annotation("A", 1), skip]).label == "A"


@pytest.mark.parametrize("who", [5, {"id": 5}, {"id": 5, "email": "a@example.com"}, "5"])
def test_an_annotator_is_recognised_in_any_format(who: Any) -> None:
    assert (
        resolve(
            SPACE, [build_annotation("A", 1, completed_by=5), build_annotation("B", 2, completed_by=who)]
        ).label
        == "B"
    )


@pytest.mark.parametrize("who", [None, {}, {"id": None}])
def test_unknown_annotators_are_several(who: Any) -> None:
    annotations = [
        build_annotation("A", 1, completed_by=who),
        build_annotation("A", 2, completed_by=who),
        build_annotation("B", 3),
    ]
    assert resolve(SPACE, annotations).label == "A"


def test_the_majority_wins_and_the_others_are_counted() -> None:
    found = resolve(SPACE, [build_annotation("A", 1), build_annotation("B", 2), build_annotation("A", 3)])
    assert (found.label, found.annotation_ids, found.dropped) == ("A", (1, 3), {"outvoted": 1})


def test_a_tie_needs_a_third_opinion() -> None:
    found = resolve(SPACE, [build_annotation("A", 1), build_annotation("B", 2)])
    assert (found.label, found.reason, found.annotation_ids) == (None, "tie", ())
    assert found.causes == {Cause("tied"): 2}


def test_ground_truth_wins_against_any_majority() -> None:
    found = resolve(
        SPACE,
        [build_annotation("A", 1), build_annotation("A", 2), build_annotation("B", 3, ground_truth=True)],
    )
    assert (found.label, found.annotation_ids, found.ground_truth) == ("B", (3,), True)


def test_contradicting_ground_truths_are_a_tie() -> None:
    annotations = [
        build_annotation("A", 1, ground_truth=True),
        build_annotation("B", 2, ground_truth=True),
        build_annotation("B", 3),
    ]
    assert resolve(SPACE, annotations).reason == "tie"


def test_ids_that_are_no_numbers_are_left_out_of_the_lineage() -> None:
    assert resolve(
        SPACE, [build_annotation("A", id="x", updated_at=None), build_annotation("A", 2)]
    ).annotation_ids == (2,)


ANNOTATIONS = st.lists(
    st.builds(
        build_annotation,
        label=st.sampled_from(["A", "B", "C", "gone", "a", "Alpha"]),
        number=st.integers(1, 6),
        completed_by=st.sampled_from([1, 2, 3, None, {"id": 1}, {"id": 2}]),
        was_cancelled=st.booleans(),
        ground_truth=st.booleans(),
        updated_at=st.sampled_from([at("01"), at("01.5"), at("02"), None, "never"]),
    )
    | st.sampled_from([None, 7, "junk", {}, {"result": [7]}, {"result": {"a": 1}}]),
    max_size=6,
)


@given(ANNOTATIONS, st.randoms())
def test_the_order_of_annotations_does_not_matter(annotations: list[Any], random: Any) -> None:
    shuffled = list(annotations)
    random.shuffle(shuffled)
    assert resolve(SPACE, shuffled) == resolve(SPACE, annotations)


@given(ANNOTATIONS)
def test_a_single_annotation_is_resolved_as_one_of_many(annotations: list[Any]) -> None:
    for annotation in annotations:
        assert resolve(SPACE, [annotation]) == _resolve_many(SPACE, [annotation])


@given(ANNOTATIONS)
def test_every_annotation_gives_the_label_or_has_one_cause(annotations: list[Any]) -> None:
    found = resolve(SPACE, annotations)
    giving = len(annotations) - sum(found.causes.values())
    assert {cause.reason for cause in found.causes} <= WORDS.keys()
    assert min(found.causes.values(), default=1) > 0
    if found.label is None:
        assert giving == 0
    else:
        assert found.label in SPACE.labels
        saying = [
            one
            for one in annotations
            if not exclusion_cause(SPACE, one) and found.label in parse_labels(SPACE, one["result"])
        ]
        assert max(1, len(found.annotation_ids)) <= giving <= len(saying)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=3)
    | st.sampled_from(["A", "c"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from_name", "value", "choices", "result", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_an_import_holds_has_a_cause_or_counts(result: Any) -> None:
    cause = exclusion_cause(SPACE, {"id": 1, "result": result})
    region = exclusion_cause(SPACE, {"id": 1, "result": [{"from_name": "c", "value": {"choices": result}}]})
    assert {one.reason for one in (cause, region) if one} <= WORDS.keys()


@given(st.lists(st.builds(Vote, st.sampled_from([("A",), ("B",)]), st.booleans(), st.just(())), max_size=7))
def test_one_more_vote_for_the_winner_changes_nothing(votes: list[Vote]) -> None:
    winners = decide(votes)
    if winners:
        assert decide([*votes, winners[0]])[0].labels == winners[0].labels


def test_a_time_without_a_zone_is_utc_and_junk_is_the_beginning() -> None:
    assert parse_timestamp("2026-01-01T00:00:00") == parse_timestamp("2026-01-01T01:00:00+01:00") > 0
    assert parse_timestamp(None) == parse_timestamp("soon") == parse_timestamp(7) == 0.0


def test_what_was_found_instead_is_kept_cut() -> None:
    assert exclusion_cause(SPACE, build_annotation("x" * 500)) == Cause("foreign_label", "x" * 80)
    other = [{"from_name": "other", "value": {"choices": ["A"]}}]
    assert exclusion_cause(SPACE, build_annotation("A", result=other)) == Cause("other_control", "other")
