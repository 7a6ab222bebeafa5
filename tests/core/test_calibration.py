"""core.calibration: what the bins of a report come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.calibration import Calibration, calibration_message, calibration_of
from services.core.domain import ReliabilityBin, Report

STEPS = 15


def bins_of(probabilities: list[float], right: list[bool]) -> tuple[ReliabilityBin, ...]:
    given_ = np.array(probabilities)
    places = np.clip(np.ceil(given_ * STEPS) - 1, 0, STEPS - 1)
    found = []
    for number in range(STEPS):
        inside = places == number
        texts = int(inside.sum())
        correct = np.array(right)[inside]
        found.append(
            ReliabilityBin(texts, float(given_[inside].mean()), float(correct.mean()))
            if texts
            else ReliabilityBin(0)
        )
    return tuple(found)


def calibration(probabilities: list[float], right: list[bool]) -> Calibration:
    found = calibration_of(Report(reliability=bins_of(probabilities, right)))
    assert found is not None
    return found


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=20, max_size=80))
def test_all_figures_are_shares(rows: list[tuple[float, bool]]) -> None:
    found = calibration([p for p, _ in rows], [right for _, right in rows])
    assert found.texts == len(rows)
    assert 0 <= abs(found.excess) <= found.error + 1e-9
    assert found.error <= 1 + 1e-9
    assert 0 <= found.by_chance <= 0.5
    for one in found.bins:
        assert one.start - 1e-9 <= one.probability <= one.end + 1e-9
        assert 0 <= one.low <= one.right <= one.high <= 1


@pytest.mark.parametrize("texts", [60, 1000, 20_000])
def test_chance_gives_calibrated_answers_the_error_that_is_named(texts: int) -> None:
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(20):
        probabilities = rng.beta(5, 2, texts)
        found = calibration(probabilities.tolist(), (rng.random(texts) < probabilities).tolist())
        errors.append(found.error / found.by_chance)
    assert 0.8 < np.mean(errors) < 1.2


def test_overconfident_answers_are_called_so() -> None:
    message = calibration_message(calibration([0.95] * 100, [True] * 70 + [False] * 30))
    assert message.endswith("They are too high.")
    assert "25.0 points" in message
    assert calibration_message(calibration([0.55] * 100, [True] * 95 + [False] * 5)).endswith(
        "They are too low."
    )


def test_small_differences_are_no_sign() -> None:
    message = calibration_message(calibration([0.75] * 20, [True] * 16 + [False] * 4))
    assert "no sign that they are wrong" in message


def test_errors_in_both_directions_are_named() -> None:
    found = calibration([0.95] * 50 + [0.4] * 50, [True] * 35 + [False] * 15 + [True] * 30 + [False] * 20)
    assert calibration_message(found).endswith("Some are too high and some too low.")


def test_too_few_texts_or_no_bins_say_nothing() -> None:
    assert calibration_of(Report()) is None
    assert calibration_of(Report(reliability=bins_of([0.5] * 19, [True] * 19))) is None
