"""How a fine-tune is judged and whether it fits its time: pure functions of sizes and seconds.

Five cross-fitted parts cost four fits of the whole data set, a holdout less than one; the refit on everything is one more.
`auto` begins its second method only where the gate could promote it: on 100 pairs or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig

CROSS_FIT, HOLDOUT = "cross-fit", "holdout"

MAX_CROSS_FIT_TEXTS = 2_000
"""Texts below which a fine-tune may be cross-fitted."""

SECOND_METHOD_MIN_TEXTS = 300
"""Texts from which on `auto` tries its second method."""

MIN_PAIRS = 100
"""Pairs without which the gate never promotes another method."""

TRAINING_COST = 4.0
"""A training step on a token costs so many times its features: three passes and what the optimiser takes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a method judges itself, and what it then serves."""

    source: str
    """`cross-fit` or `holdout`."""
    refit: bool
    """Whether what is served is trained on everything; always so with `cross-fit`."""
    seconds: float
    """What all of it should take."""


def fit_seconds(tokens: int, epochs: float, seconds_per_token: float) -> float:
    """Seconds that training on everything should take, by how long the features took."""
    return tokens * epochs * seconds_per_token * TRAINING_COST


def plan_explicit(texts: int, one_fit: float, budget_seconds: float) -> Plan:
    """For a method that was asked for by name: the budget decides about the estimate's quality, not whether to train."""
    if texts < MAX_CROSS_FIT_TEXTS and 5 * one_fit <= budget_seconds:
        return Plan(CROSS_FIT, True, 5 * one_fit)
    refit = 2 * one_fit <= budget_seconds
    return Plan(HOLDOUT, refit, (2 if refit else 1) * one_fit)


def plan_second_method(texts: int, held_out: int, one_fit: float, seconds_left: float) -> Plan | str:
    """For the second method of `auto`: a plan that fits the time left, or the sentence that says why there is none."""
    if texts < SECOND_METHOD_MIN_TEXTS:
        return f"Fine-tuning is tried from {SECOND_METHOD_MIN_TEXTS} labelled texts on; there are {texts}."
    plans = [Plan(CROSS_FIT, True, 5 * one_fit)] if texts < MAX_CROSS_FIT_TEXTS else []
    if held_out >= MIN_PAIRS:
        plans += [Plan(HOLDOUT, True, 2 * one_fit), Plan(HOLDOUT, False, one_fit)]
    fitting = [plan for plan in plans if plan.seconds <= seconds_left]
    if fitting:
        return fitting[0]
    cheapest = min((plan.seconds for plan in plans), default=5 * one_fit)
    return (
        f"Fine-tuning was left out: it would take about {cheapest:.0f} s to train and to judge on {MIN_PAIRS} texts, "
        f"and {max(0.0, seconds_left):.0f} s are left. FITLOOP_TRAINING_BUDGET_SECONDS gives it more."
    )


WEIGHT_DECAY = 0.01

SMALL_ENCODER = 512
"""Hidden sizes up to this one take the larger steps."""

_EPOCHS = {
    Method.LP_FT: ((1_000, 6.0), (5_000, 4.0)),
    Method.FINETUNE: ((500, 15.0), (1_000, 10.0), (2_000, 6.0), (5_000, 4.0)),
}

_MANY_TEXTS_EPOCHS = 3.0

_LEARNING_RATE = {
    Method.LP_FT: (2e-4, 3e-5),
    Method.FINETUNE: (3e-4, 5e-5),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the training loop is told."""

    epochs: float
    learning_rate: float
    """The highest, after warm-up; it falls to zero at the end."""
    head_learning_rate: float
    weight_decay: float
    seed: int
    warm_up: float = 0.1
    """Share of all steps in which the learning rate rises."""
    clip: float = 1.0
    """Longest gradient, as an L2 norm."""
    batch_tokens: int = 1_024
    """Tokens of a batch, padding included."""
    batch_texts: int = 64
    padded: bool = True
    """False: only texts of one length share a batch."""


def recipe_for(method: Method, texts: int, hidden_size: int, parameters: Parameters) -> Recipe:
    """The settings of a fine-tune on so many texts with an encoder of that width. Raises BadConfig."""
    _check_finite(parameters)
    small, large = _LEARNING_RATE[method]
    by_rule = small if hidden_size <= SMALL_ENCODER else large
    rate = by_rule if parameters.learning_rate is None else parameters.learning_rate
    new_head = method is Method.FINETUNE and parameters.learning_rate is None
    rule_epochs = next((epochs for most, epochs in _EPOCHS[method] if texts <= most), _MANY_TEXTS_EPOCHS)
    return Recipe(
        epochs=rule_epochs if parameters.num_train_epochs is None else parameters.num_train_epochs,
        learning_rate=rate,
        head_learning_rate=10 * rate if new_head else rate,
        weight_decay=WEIGHT_DECAY if parameters.weight_decay is None else parameters.weight_decay,
        seed=parameters.seed,
    )


def _check_finite(parameters: Parameters) -> None:
    for name in ("learning_rate", "num_train_epochs", "weight_decay"):
        value = getattr(parameters, name)
        if value is not None and not math.isfinite(value):
            raise BadConfig(f"{name.upper()} is {value}: set it to a finite number, or not at all.")


def effective_parameters(parameters: Parameters, recipe: Recipe) -> Parameters:
    """The parameters with the numbers that took effect, for the manifest."""
    return replace(
        parameters,
        learning_rate=recipe.learning_rate,
        num_train_epochs=recipe.epochs,
        weight_decay=recipe.weight_decay,
    )
