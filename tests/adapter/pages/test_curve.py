"""The learning curve: what is drawn of versions, and where."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.pages.curve import HEIGHT, WIDTH, draw
from services.core.domain import Estimate, Manifest
from services.trainer.evaluation.metrics import wilson_interval
from tests.support.manifests import build_manifest


def version(number: int, texts: int, right: int, judged: int, *, promote: bool = True) -> Manifest:
    made = build_manifest(f"v-{number}")
    low, high = wilson_interval(right, judged)
    return replace(
        made,
        estimate=Estimate(judged, right, low, high, 0.5, "cross-fit"),
        gate=replace(made.gate, promote=promote),
        lineage=replace(made.lineage, texts=texts),
    )


def test_without_a_version_that_says_anything_there_is_no_curve() -> None:
    assert draw([], None) is None
    assert draw([version(1, 19, 10, 19)], "v-1") is None


def test_one_version_stands_in_the_middle_and_is_described() -> None:
    curve = draw([version(1, 40, 30, 40)], "v-1")
    assert curve is not None
    (point,) = curve.points
    assert point.kind == "served"
    assert abs(point.x - WIDTH / 2) < 40
    assert point.high < point.y < point.low
    assert curve.description == "One version was judged. v-1: 75 % (60–86) right, from 40 texts."


def test_a_held_version_is_a_point_and_not_on_the_line() -> None:
    made = [version(1, 40, 20, 40), version(2, 60, 10, 60, promote=False), version(3, 80, 60, 80)]
    curve = draw(made, "v-3")
    assert curve is not None
    assert [point.kind for point in curve.points] == ["promoted", "held", "served"]
    assert len(curve.line.split()) == 2


def test_versions_with_too_few_judged_texts_are_counted() -> None:
    curve = draw([version(1, 10, 5, 10), version(2, 40, 30, 40)], "v-2")
    assert curve is not None
    assert curve.left_out == 1


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(20, 400), st.floats(0, 1)), min_size=1, max_size=80)
)
def test_all_of_it_is_within_the_picture(rows: list[tuple[int, int, float]]) -> None:
    made = [
        version(number, texts, int(share * judged), judged)
        for number, (texts, judged, share) in enumerate(rows)
    ]
    curve = draw(made, "v-0")
    assert curve is not None
    assert len(curve.ys) <= 7
    for point in curve.points:
        assert curve.left <= point.x <= curve.right
        assert 0 <= point.high <= point.y <= point.low <= HEIGHT
