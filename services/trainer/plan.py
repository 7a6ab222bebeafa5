"""How a fine-tune is judged and whether it fits its time: pure functions of sizes and seconds.

Five cross-fitted parts cost four fits of the whole data set, a holdout less than one; the refit on everything is one more.
`auto` begins its second method only where the gate could promote it: on 100 pairs or more.
"""

from __future__ import annotations

from dataclasses import dataclass

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
