"""The ways to train a model: what a method gets and what it returns.

A method trains on the labels and answers every text that it can out of sample, by models that were not trained on it.
`auto` is no method but a sequence of two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.core.domain import Method, Parameters
from services.engine.compute import sigmoid

if TYPE_CHECKING:
    from torch import nn

    from services.trainer.data import RunInputs
    from services.trainer.data.features import Features, Flags, Floats, Rows
    from services.trainer.methods.checkpoints import Checkpoints
    from services.trainer.methods.plan import Plan
    from services.trainer.process import Run


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """Everything that a method may use."""

    run: Run
    inputs: RunInputs
    features: Features
    plan: Plan
    checkpoints: Checkpoints

    @property
    def pool_features(self) -> Floats:
        """(m, d) The features of unlabelled texts, as far as they are known."""
        return self.features.pool


@dataclass(frozen=True, slots=True)
class OutOfSampleLogits:
    """Answers of models that were not trained on the text."""

    rows: Rows
    """(evaluated,) which texts of the data set have such an answer."""
    logits: Floats
    """(evaluated, labels)."""
    learnable: Flags
    """(evaluated,) False if its model could not know the text's label: it had neither an example of it nor a name that it trusts."""
    folds: Rows
    """(texts,) the fold of each text; near-duplicates are looked for across folds."""
    source: str
    """`cross-fit` or `holdout`."""


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer on an encoder's features."""

    weight: Floats
    """(labels, d)"""
    bias: Floats
    """(labels,)"""


@dataclass(frozen=True, slots=True)
class Choice:
    """How logits become calibrated probabilities, and from which one on a label is chosen."""

    slope: float
    shift: float
    thresholds: Floats
    """(labels,) calibrated logits."""

    @property
    def probabilities(self) -> Floats:
        """(labels,) the thresholds as probabilities."""
        return sigmoid(self.thresholds)

    def apply(self, logits: Floats) -> Floats:
        """Return calibrated logits (texts, labels) less the thresholds: what is chosen has one >= 0."""
        return np.asarray(self.slope * logits + self.shift - self.thresholds, np.float32)

    def fold(self, head: Head) -> Head:
        """Return the head whose logits are those that `apply` returns."""
        weight = np.asarray(np.float32(self.slope) * head.weight, np.float32)
        return Head(weight, self.apply(head.bias))


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model that is ready to be evaluated and exported."""

    method: Method
    model: nn.Module | None
    """A trained encoder if there is a `head`, else a whole classifier; None if the base model's encoder was left as it is."""
    head: Head | None
    logits: Floats
    """(texts, labels) of this model for all texts: the exported model must give the same."""
    out_of_sample: OutOfSampleLogits
    trained: Flags
    """(texts,) which texts this model was trained on."""
    parameters: Parameters
    """As they took effect."""
    resumed_from: str | None = None
    unseen: Floats | None = None
    """(m, labels) logits of this model for at most 2,000 unlabelled texts that it was not trained on; None if there are none."""
    thresholds: Floats | None = None
    """(labels,) where a text may have several labels: the probability from which on each is chosen. All logits are less these, so
    that what is chosen has one >= 0. None: a text has one label."""
    choice: Choice | None = None
    """Of a whole classifier where a text may have several labels: what makes `logits` of those that it gives. A `head` has it already."""
    precision: str = ""
    """How a fine-tune multiplied matrices, and what was measured; "" of a probe."""
    layers: int = 0
    """How many of its last layers a fine-tune trained; 0: all of them, and of a probe none."""


TrainingMethod = Callable[[TrainingContext], TrainedModel]
"""Raises Preempted after a checkpoint."""
