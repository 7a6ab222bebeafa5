"""What a method gets and gives: Work, and a Fitted model with out-of-sample logits and a way to write it.

Below the methods, which `services.trainer.methods` chooses among.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from services.core.domain import Method, Parameters
from services.trainer.data.dataset import Dataset
from services.trainer.data.features import Features, Flags, Floats, Rows
from services.trainer.process.distributed import SINGLE, Single
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel
    from services.trainer.methods.checkpoints import Checkpoints
    from services.trainer.methods.plan import Plan


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """All that a method may use."""

    base: BaseModel
    dataset: Dataset
    features: Features
    parameters: Parameters
    plan: Plan
    progress: Progress
    stop: Stop
    checkpoints: Checkpoints
    group: Single = SINGLE


@dataclass(frozen=True, slots=True)
class OutOfSampleLogits:
    """Answers of models that never saw the text."""

    rows: Rows
    """(judged,) which texts of the data set have such an answer."""
    logits: Floats
    """(judged, labels)."""
    learnable: Flags
    """(judged,) False where the text's label had no example in what its model was trained on."""
    folds: Rows
    """(texts,) texts of one part were never used to judge each other: near-duplicates are looked for across."""
    source: str
    """`cross-fit` or `holdout`."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, for the equality check."""

    temperature: float
    """What is left for the engine to divide logits by."""
    logits: Floats
    """(texts, labels) of all texts by the model in memory, as the written one must give them."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model that is ready to be judged and written."""

    method: Method
    layout: str
    out_of_sample: OutOfSampleLogits
    trained: Flags
    """(texts,) which texts the model that is served was trained on."""
    write: Callable[[Path, float], Written]
    """Writes the fp32 model of record into a folder, given the temperature."""
    parameters: Parameters
    """As they took effect."""
    resumed_from: str | None = None


class TrainingMethod(Protocol):
    """A way to make a model."""

    def __call__(self, work: TrainingContext) -> TrainedModel:
        """Train, with out-of-sample answers on the way. Raises Preempted after a checkpoint."""
        ...
