"""How a fine-tune is judged and whether it fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.trainer.plan import CROSS_FIT, HOLDOUT, Plan, fit_seconds, plan_explicit, plan_second_method

SECONDS = st.floats(0.001, 1e5)
TEXTS = st.integers(2, 50_000)


@given(TEXTS, SECONDS, SECONDS)
def test_an_explicit_method_always_has_a_plan_and_is_cross_fitted_only_within_its_budget(
    texts: int, one_fit: float, budget: float
) -> None:
    plan = plan_explicit(texts, one_fit, budget)
    cheap = texts < 2_000 and 5 * one_fit <= budget
    assert plan.source == (CROSS_FIT if cheap else HOLDOUT)
    assert plan.refit == (cheap or 2 * one_fit <= budget)


@given(TEXTS, st.integers(0, 10_000), SECONDS, SECONDS)
def test_a_second_method_never_takes_more_than_the_time_left_and_can_be_judged(
    texts: int, held_out: int, one_fit: float, left: float
) -> None:
    plan = plan_second_method(texts, held_out, one_fit, left)
    if isinstance(plan, Plan):
        assert plan.seconds <= left
        assert texts >= 300
        assert plan.source == CROSS_FIT or held_out >= 100
    else:
        assert plan.endswith(".")


def test_a_second_method_prefers_to_be_judged_on_all_texts() -> None:
    assert plan_second_method(600, 120, 10.0, 50.0) == Plan(CROSS_FIT, True, 50.0)
    assert plan_second_method(600, 120, 10.0, 49.0) == Plan(HOLDOUT, True, 20.0)
    assert plan_second_method(600, 120, 10.0, 19.0) == Plan(HOLDOUT, False, 10.0)


def test_a_second_method_that_does_not_fit_says_what_it_would_take() -> None:
    sentence = plan_second_method(400, 80, 20.0, 60.0)
    assert isinstance(sentence, str)
    assert "about 100 s" in sentence
    assert "60 s are left" in sentence


def test_few_texts_are_the_reason_before_time_is() -> None:
    assert (
        plan_second_method(40, 8, 1.0, 60.0)
        == "Fine-tuning is tried from 300 labelled texts on; there are 40."
    )


def test_training_costs_a_multiple_of_the_features() -> None:
    assert fit_seconds(1_000, 3.0, 0.001) == 12.0
