"""Settings that were set are obeyed to the letter; the others come by rule."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig
from services.trainer.recipe import effective_parameters, recipe_for


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
