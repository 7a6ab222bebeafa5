"""The reliability diagram: bins in coordinates, and the same in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.pages.reliability import (
    BARS_BOTTOM,
    BARS_TOP,
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    build_reliability_diagram,
)
from services.core.domain import ReliabilityBin, Report


@st.composite
def bins(draw: st.DrawFn) -> tuple[ReliabilityBin, ...]:
    """Return bins as a report has them: the mean of each lies within it."""
    steps = draw(st.integers(1, 20))
    found = []
    for number in range(steps):
        texts = draw(st.sampled_from([0, 1, 7, 90_000]))
        mean = (number + draw(st.floats(0, 1))) / steps
        found.append(ReliabilityBin(texts, mean, draw(st.floats(0, 1))) if texts else ReliabilityBin(0))
    return tuple(found)


@given(bins())
def test_all_of_it_is_within_the_picture(given_bins: tuple[ReliabilityBin, ...]) -> None:
    found = build_reliability_diagram(Report(reliability=given_bins))
    texts = sum(one.texts for one in given_bins)
    if texts < 20:
        assert found is None
        return
    assert found is not None
    assert texts == sum(row.answers for row in found.rows)
    assert len(found.shapes) == len(found.rows) == sum(one.texts > 0 for one in given_bins)
    for shape in found.shapes:
        assert LEFT <= shape.left <= shape.left + shape.width <= WIDTH - RIGHT
        assert LEFT <= shape.x <= WIDTH - RIGHT
        assert TOP <= shape.high <= shape.y <= shape.low <= BOTTOM
        assert BARS_TOP <= shape.top < shape.top + shape.height <= BARS_BOTTOM + 0.1


def test_bins_are_described() -> None:
    found = build_reliability_diagram(Report(reliability=(ReliabilityBin(0), ReliabilityBin(100, 0.95, 0.7))))
    assert found is not None
    (row,) = found.rows
    assert (row.range, row.answers, row.interval) == ("50–100 %", 100, "60–78")
    assert found.shapes[0].title == "100 answers at 50–100 %: mean 95 %, 70 % correct (60–78)"
    assert "They are too high." in found.message
    assert found.description.startswith("100 answers in 1 bin.")
