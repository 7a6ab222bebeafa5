"""With which settings a fine-tune is trained: those that were set, to the letter; the others by rule from the data's size.

The rules come from measurements on a small sentence encoder and from what is usual for BERT-base: small encoders take
larger steps, and few texts more passes. A head that starts from nothing learns ten times faster than the encoder, unless
LEARNING_RATE was set, which then holds for all weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig

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
