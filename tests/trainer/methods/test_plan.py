"""How a fine-tune is judged and whether it fits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig
from services.trainer.methods.plan import (
    CROSS_FIT,
    HOLDOUT,
    Plan,
    effective_parameters,
    fit_seconds,
    plan_explicit,
    plan_second_method,
    recipe_for,
)

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
        == "Fine-tuning is tried with 300 labelled texts or more; there are 40."
    )


def test_training_costs_a_multiple_of_the_features() -> None:
    assert fit_seconds(1_000, 3.0, 0.001) == 12.0


def test_what_is_set_is_obeyed_to_the_letter() -> None:
    given = Parameters(learning_rate=1e-3, num_train_epochs=2.5, weight_decay=0.0)
    recipe = recipe_for(Method.FINETUNE, 10, 768, given)
    assert (recipe.learning_rate, recipe.head_learning_rate) == (1e-3, 1e-3)
    assert (recipe.epochs, recipe.weight_decay) == (2.5, 0.0)
    assert effective_parameters(given, recipe) == given


def test_few_texts_get_more_passes_and_small_encoders_larger_steps() -> None:
    few = recipe_for(Method.FINETUNE, 100, 384, Parameters())
    many = recipe_for(Method.FINETUNE, 20_000, 768, Parameters())
    assert few.epochs > many.epochs == 3.0
    assert few.learning_rate > many.learning_rate
    assert few.head_learning_rate == 10 * few.learning_rate


@pytest.mark.parametrize("name", ["num_train_epochs", "learning_rate", "weight_decay"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_a_wrong_setting(name: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"{name.upper()} is {value}: set it to a finite number"):
        recipe_for(Method.FINETUNE, 30, 384, replace(Parameters(), **{name: value}))  # type: ignore[arg-type]


def test_a_probes_head_is_no_new_head() -> None:
    recipe = recipe_for(Method.LP_FT, 300, 384, Parameters())
    assert (recipe.epochs, recipe.learning_rate, recipe.head_learning_rate) == (6.0, 2e-4, 2e-4)


def test_the_manifest_gets_the_numbers_that_took_effect() -> None:
    taken = effective_parameters(Parameters(), recipe_for(Method.LP_FT, 2_000, 384, Parameters()))
    assert (taken.learning_rate, taken.num_train_epochs, taken.weight_decay) == (2e-4, 4.0, 0.01)
