"""The recipe of a fine-tune, how it is evaluated, and whether it fits its budget."""

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
    Speed,
    effective_parameters,
    plan_explicit,
    plan_second_method,
    recipe_for,
)

SECONDS = st.floats(0.001, 1e5)

TEXTS = st.integers(2, 50_000)


@given(TEXTS, SECONDS, SECONDS)
def test_requested_methods_are_cross_fitted_within_budget(texts: int, one_fit: float, budget: float) -> None:
    plan = plan_explicit(texts, one_fit, budget)
    cheap = texts < 2_000 and 5 * one_fit <= budget
    assert plan.source == (CROSS_FIT if cheap else HOLDOUT)
    assert plan.refit == (cheap or 2 * one_fit <= budget)


@given(TEXTS, st.integers(0, 10_000), SECONDS, SECONDS)
def test_second_method_fits_its_time(texts: int, held_out: int, one_fit: float, left: float) -> None:
    plan = plan_second_method(texts, held_out, one_fit, left)
    if isinstance(plan, Plan):
        assert plan.seconds <= left
        assert texts >= 1_000
        assert plan.source == CROSS_FIT or held_out >= 100
    else:
        assert plan.endswith(".")


def test_second_method_prefers_cross_fitting() -> None:
    assert plan_second_method(1_200, 240, 10.0, 50.0) == Plan(CROSS_FIT, True, 50.0)
    assert plan_second_method(1_200, 240, 10.0, 49.0) == Plan(HOLDOUT, True, 20.0)
    assert plan_second_method(1_200, 240, 10.0, 19.0) == Plan(HOLDOUT, False, 10.0)


def test_skipped_second_method_names_its_time() -> None:
    sentence = plan_second_method(1_200, 80, 20.0, 60.0)
    assert isinstance(sentence, str)
    assert "about 100 s" in sentence
    assert "60 s are left" in sentence


def test_second_method_needs_1_000_texts() -> None:
    assert (
        plan_second_method(40, 8, 1.0, 60.0)
        == "Fine-tuning is tried with 1,000 labelled texts or more; there are 40."
    )


def test_training_costs_a_multiple_of_the_features() -> None:
    assert Speed(0.001).fit_seconds(1_000, 3.0) == 12.0


def test_the_last_layers_cost_their_share_and_the_others_once() -> None:
    assert Speed(0.001, 0.25).fit_seconds(1_000, 3.0) == pytest.approx(0.75 + 3.0)
    assert Speed(0.001, 0.25, cached=False).fit_seconds(1_000, 3.0) == pytest.approx(3 * 0.75 + 3.0)


def test_settings_override_the_rules() -> None:
    given = Parameters(learning_rate=1e-3, num_train_epochs=2.5, weight_decay=0.0)
    recipe = recipe_for(Method.FINETUNE, 10, 768, given)
    assert (recipe.learning_rate, recipe.head_learning_rate) == (1e-3, 1e-3)
    assert (recipe.epochs, recipe.weight_decay) == (2.5, 0.0)
    assert effective_parameters(given, recipe) == given


def test_recipe_rules() -> None:
    few = recipe_for(Method.FINETUNE, 100, 384, Parameters())
    many = recipe_for(Method.FINETUNE, 20_000, 768, Parameters())
    assert few.epochs > many.epochs == 3.0
    assert few.learning_rate > many.learning_rate
    assert few.head_learning_rate == 10 * few.learning_rate


@pytest.mark.parametrize("name", ["num_train_epochs", "learning_rate", "weight_decay"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_refuses_settings_that_are_not_finite(name: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"{name.upper()} is {value}: set it to a finite number"):
        recipe_for(Method.FINETUNE, 30, 384, replace(Parameters(), **{name: value}))  # type: ignore[arg-type]


def test_lp_ft_trains_its_head_like_the_encoder() -> None:
    recipe = recipe_for(Method.LP_FT, 300, 384, Parameters())
    assert (recipe.epochs, recipe.learning_rate, recipe.head_learning_rate) == (6.0, 2e-4, 2e-4)


def test_the_last_layers_learn_faster_and_without_dropout() -> None:
    few = recipe_for(Method.LP_FT, 1_200, 384, Parameters(), layers=2)
    assert (few.epochs, few.learning_rate, few.head_learning_rate, few.dropout) == (6.0, 2e-4, 2e-3, False)
    assert recipe_for(Method.LP_FT, 2_001, 384, Parameters(), layers=2).epochs == 3.0
    asked = recipe_for(Method.LP_FT, 1_200, 384, Parameters(learning_rate=1e-5), layers=2)
    assert (asked.learning_rate, asked.head_learning_rate) == (1e-5, 1e-5)


def test_effective_parameters() -> None:
    taken = effective_parameters(Parameters(), recipe_for(Method.LP_FT, 2_000, 384, Parameters()))
    assert (taken.learning_rate, taken.num_train_epochs, taken.weight_decay) == (2e-4, 4.0, 0.01)
