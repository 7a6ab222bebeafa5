"""How a method is trained and evaluated: the recipe of a fine-tune, cross-fit or holdout, and whether it fits its time.

Settings that a person gave are used to the letter; the others follow from the data's size. The rules come from measurements
on a small sentence encoder and from what is usual for BERT-base: small encoders take larger steps, and few texts more epochs.
A head learns ten times faster than the encoder, unless LEARNING_RATE was set, which then applies to all weights.
On a CPU, `lp-ft` trains the last layers alone where the architecture can be cut, on a GPU all of them; `finetune` always all.
Five cross-fitted folds cost four fits of the whole data set, a holdout less than one; the refit on everything is one more.
`auto` begins its second method only if the gate could promote it: on 100 pairs or more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig
from services.trainer.data.split import is_in_holdout
from services.trainer.process.resources import has_gpu

if TYPE_CHECKING:
    from services.trainer.data import RunInputs
    from services.trainer.data.features import Features

CROSS_FIT, HOLDOUT = "cross-fit", "holdout"
MAX_CROSS_FIT_TEXTS: Final = 2_000
"""Texts below which a fine-tune may be cross-fitted."""
SECOND_METHOD_MIN_TEXTS: Final = 1_000
"""Texts from which on `auto` tries its second method: with 600 it gains nothing."""
SECOND_METHOD_MIN_SETS: Final = 500
"""The same where a text may have several labels: with 500 it gains 2 points of F1, with 1,000 four (decision 60)."""
TRAINED_LAYERS: Final = 2
"""The last layers, of 6 or 12: they gain most of what training all gains, at a third of the time or less."""
MIN_PAIRS: Final = 100
"""Pairs below which the gate never promotes another method."""
TRAINING_COST: Final = 4.0
"""How many times a token's features a training step on it costs: three passes and the optimiser."""
WEIGHT_DECAY: Final = 0.01
SMALL_ENCODER: Final = 512
"""The largest hidden size that takes the larger steps."""
_EPOCHS = {
    Method.LP_FT: ((1_000, 6.0), (5_000, 4.0)),
    Method.FINETUNE: ((500, 15.0), (1_000, 10.0), (2_000, 6.0), (5_000, 4.0)),
}
_MANY_TEXTS_EPOCHS: Final = 3.0
_TOP_EPOCHS = ((2_000, 6.0),)
"""Of the last layers alone."""
_LEARNING_RATE = {
    Method.LP_FT: (2e-4, 3e-5),
    Method.FINETUNE: (3e-4, 5e-5),
}
_BUSY = 4.0
"""How many times slower than this machine that of the encoder's maker may have been: it may have been busy."""
_LEAST_SHARE = 1 / 12
"""Of the layers that are trained, before the model is loaded: two of 24."""
_TOLERANCE = 1.5
"""How many times its budget the second method of `auto` may take, once it has begun."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a method is evaluated, and what is served."""

    source: str
    """`cross-fit` or `holdout`."""
    refit: bool
    """Whether the served model is trained on everything; always True with `cross-fit`."""
    seconds: float
    """The estimate for all of it."""
    layers: int = 0
    """How many of the last layers are trained; 0: all of them."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the base model computes in fp32, and how much of it is trained."""

    seconds_per_token: float
    share: float = 1.0
    """Of the layers' weights, those of the layers that are trained."""
    cached: bool = True
    """Whether the other layers are computed once, and not in each epoch."""

    def fit_seconds(self, tokens: int, epochs: float) -> float:
        """Estimate the seconds of training on texts of this many tokens."""
        lower = (1.0 - self.share) * (1.0 if self.cached else epochs)
        return tokens * self.seconds_per_token * (lower + self.share * epochs * TRAINING_COST)


def plan_for(
    method: Method,
    inputs: RunInputs,
    features: Features,
    parameters: Parameters,
    measure: Callable[[], Speed],
    *,
    second: bool,
) -> Plan | str:
    """Plan a method within its budget; for the second method of `auto`, perhaps return why it is skipped.

    `measure` loads the base model, which takes seconds, so that what an earlier machine measured is asked first: if that
    leaves no time, nothing is loaded.
    """
    if method is Method.LINEAR_PROBE:
        return Plan(CROSS_FIT, refit=True, seconds=0.0)
    texts = len(inputs.dataset.examples)
    holdout = sum(is_in_holdout(key, texts) for key in inputs.dataset.split_keys)

    def planned(speed: Speed) -> Plan | str:
        layers = TRAINED_LAYERS if speed.share < 1 else 0
        epochs = recipe_for(method, texts, inputs.encoder.manifest.width, parameters, layers).epochs
        one_fit = speed.fit_seconds(features.tokens, epochs)
        if second:
            least = SECOND_METHOD_MIN_SETS if inputs.dataset.multiple else SECOND_METHOD_MIN_TEXTS
            found = plan_second_method(texts, holdout, one_fit, parameters.budget_seconds, least)
        else:
            found = plan_explicit(texts, one_fit, parameters.budget_seconds)
        return found if isinstance(found, str) else replace(found, layers=layers)

    share = _LEAST_SHARE if method is Method.LP_FT else 1.0
    expected = planned(Speed(0.0 if has_gpu() else inputs.encoder.seconds_per_token / _BUSY, share))
    return expected if isinstance(expected, str) else planned(measure())


def second_method_deadline(parameters: Parameters) -> float:
    """Return when `auto` gives its second method up: its plan was made from how fast the machine was then."""
    return time.monotonic() + _TOLERANCE * parameters.budget_seconds


def plan_explicit(texts: int, one_fit: float, budget_seconds: float) -> Plan:
    """Plan a method that was requested by name: the budget decides how well it is evaluated, not whether it is trained."""
    if texts < MAX_CROSS_FIT_TEXTS and 5 * one_fit <= budget_seconds:
        return Plan(CROSS_FIT, True, 5 * one_fit)
    refit = 2 * one_fit <= budget_seconds
    return Plan(HOLDOUT, refit, (2 if refit else 1) * one_fit)


def plan_second_method(
    texts: int, held_out: int, one_fit: float, seconds_left: float, least: int = SECOND_METHOD_MIN_TEXTS
) -> Plan | str:
    """Plan the second method of `auto` within the time left, or return the reason why it is skipped: fewer texts than `least`."""
    if texts < least:
        return f"Fine-tuning is tried with {least:,} labelled texts or more; there are {texts}."
    plans = [Plan(CROSS_FIT, True, 5 * one_fit)] if texts < MAX_CROSS_FIT_TEXTS else []
    if held_out >= MIN_PAIRS:
        plans += [Plan(HOLDOUT, True, 2 * one_fit), Plan(HOLDOUT, False, one_fit)]
    fitting = [plan for plan in plans if plan.seconds <= seconds_left]
    if fitting:
        return fitting[0]
    cheapest = min((plan.seconds for plan in plans), default=5 * one_fit)
    return (
        f"Fine-tuning was skipped: training and evaluation on {MIN_PAIRS} texts would take about {cheapest:.0f} s, "
        f"and {max(0.0, seconds_left):.0f} s are left. Raise FITLOOP_TRAINING_BUDGET_SECONDS to allow it."
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of the training loop."""

    epochs: float
    learning_rate: float
    """The peak, after warm-up; it falls to zero at the end."""
    head_learning_rate: float
    weight_decay: float
    seed: int
    warm_up: float = 0.1
    """Share of all steps in which the learning rate rises."""
    clip: float = 1.0
    """The largest L2 norm of the gradient."""
    batch_tokens: int = 1_024
    """Tokens of a batch, padding included."""
    batch_texts: int = 64
    padded: bool = True
    """False: only texts of one length share a batch."""
    dropout: bool = True
    """Whether the base model's dropout is on."""


def recipe_for(
    method: Method, texts: int, hidden_size: int, parameters: Parameters, layers: int = 0
) -> Recipe:
    """Return the recipe of a fine-tune on this many texts with an encoder of this width; `layers` of a Plan. Raises BadConfig."""
    _check_finite(parameters)
    small, large = _LEARNING_RATE[method]
    by_rule = small if hidden_size <= SMALL_ENCODER else large
    rate = by_rule if parameters.learning_rate is None else parameters.learning_rate
    head_apart = (method is Method.FINETUNE or layers) and parameters.learning_rate is None
    table = _TOP_EPOCHS if layers else _EPOCHS[method]
    rule_epochs = next((epochs for most, epochs in table if texts <= most), _MANY_TEXTS_EPOCHS)
    return Recipe(
        epochs=rule_epochs if parameters.num_train_epochs is None else parameters.num_train_epochs,
        learning_rate=rate,
        head_learning_rate=10 * rate if head_apart else rate,
        weight_decay=WEIGHT_DECAY if parameters.weight_decay is None else parameters.weight_decay,
        seed=parameters.seed,
        dropout=not layers,
    )


def _check_finite(parameters: Parameters) -> None:
    for name in ("learning_rate", "num_train_epochs", "weight_decay"):
        value = getattr(parameters, name)
        if value is not None and not math.isfinite(value):
            raise BadConfig(f"{name.upper()} is {value}: set it to a finite number, or leave it unset.")


def effective_parameters(parameters: Parameters, recipe: Recipe) -> Parameters:
    """Return the parameters with the numbers that took effect, for the manifest."""
    return replace(
        parameters,
        learning_rate=recipe.learning_rate,
        num_train_epochs=recipe.epochs,
        weight_decay=recipe.weight_decay,
    )
