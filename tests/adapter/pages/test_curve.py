"""The learning curve: what is drawn of versions, and where."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.pages.curve import HEIGHT, WIDTH, LearningCurve, build_learning_curve
from services.core.domain import Estimate, ExpectedAccuracy, Manifest
from services.core.intervals import wilson_interval
from tests.support.manifests import build_manifest


def version(
    number: int, texts: int, right: int, judged: int, *, promote: bool = True, expected: float | None = None
) -> Manifest:
    made = build_manifest(f"v-{number}")
    low, high = wilson_interval(right, judged)
    return replace(
        made,
        estimate=Estimate(judged, right, low, high, 0.5, "cross-fit"),
        expected=None if expected is None else ExpectedAccuracy(expected, 0.05, 500),
        gate=replace(made.gate, promote=promote),
        lineage=replace(made.lineage, texts=texts),
    )


def curve_of(*made: Manifest, served: str = "v-1") -> LearningCurve:
    curve = build_learning_curve(made, served)
    assert curve is not None
    return curve


def test_without_a_version_that_says_anything_there_is_no_curve() -> None:
    assert build_learning_curve([], None) is None
    assert build_learning_curve([version(1, 19, 10, 19)], "v-1") is None


def test_one_version_stands_in_the_middle_and_is_described() -> None:
    curve = curve_of(version(1, 40, 30, 40))
    (point,) = curve.evaluated.points
    assert point.kind == "served"
    assert abs(point.x - WIDTH / 2) < 40
    assert point.high < point.y < point.low
    assert curve.expected.points == ()
    assert curve.description == "One version. v-1: evaluated 75 % (60–86), 40 labelled texts."


def test_both_figures_of_a_version_stand_beside_each_other() -> None:
    curve = curve_of(version(1, 40, 30, 40, expected=0.85), version(2, 60, 45, 60))
    (expected,), (first, _) = curve.expected.points, curve.evaluated.points
    assert expected.x < first.x
    assert expected.y < first.y
    assert expected.title == "v-1: expected about 85 % (±5), evaluated 75 % (60–86), 40 labelled texts"
    newest, oldest = curve.rows
    assert (newest.version, newest.expected, newest.evaluated, newest.kind) == (
        "v-2",
        "–",
        "75 % (63–84)",
        "promoted",
    )
    assert (oldest.expected, oldest.kind) == ("about 85 % (±5)", "served")


def test_a_version_with_an_expected_accuracy_alone_is_drawn() -> None:
    curve = curve_of(version(1, 12, 8, 12, expected=0.7))
    assert (len(curve.expected.points), len(curve.evaluated.points), curve.omitted) == (1, 0, 0)


def test_a_reason_instead_of_an_accuracy_is_no_figure() -> None:
    none = replace(version(1, 12, 8, 12), expected=ExpectedAccuracy(None, reason="too few labels"))
    assert build_learning_curve([none], "v-1") is None


def test_a_held_version_is_a_point_and_not_on_the_line() -> None:
    curve = curve_of(
        version(1, 40, 20, 40), version(2, 60, 10, 60, promote=False), version(3, 80, 60, 80), served="v-3"
    )
    assert [point.kind for point in curve.evaluated.points] == ["promoted", "held", "served"]
    assert len(curve.evaluated.line.split()) == 2


def test_versions_with_too_few_judged_texts_are_counted() -> None:
    assert curve_of(version(1, 10, 5, 10), version(2, 40, 30, 40)).omitted == 1


VERSIONS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(20, 400), st.floats(0, 1), st.none() | st.floats(0, 1)),
    min_size=1,
    max_size=80,
)


@given(VERSIONS)
def test_all_of_it_is_within_the_picture(rows: list[tuple[int, int, float, float | None]]) -> None:
    made = [
        version(number, texts, int(share * judged), judged, expected=expected)
        for number, (texts, judged, share, expected) in enumerate(rows)
    ]
    curve = curve_of(*made, served="v-0")
    assert 1 <= len(curve.ys) <= 7
    assert 1 <= len(curve.xs) <= 5
    for point in curve.expected.points + curve.evaluated.points:
        assert curve.left <= point.x <= curve.right
        assert 0 <= point.high <= point.y <= point.low <= HEIGHT
    for tick in curve.xs:
        assert curve.left <= tick.at <= curve.right
