"""How a model is made: one Protocol, and `method_of` chooses. `auto` is no method but a plan (services.trainer.plan).

A method gets Work and gives Fitted: out-of-sample logits for judging, and a way to write the model that is to be served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Method, Parameters
from services.trainer.dataset import Dataset
from services.trainer.features import Features
from services.trainer.preemption import Stop
from services.trainer.progress import Progress

if TYPE_CHECKING:
    from services.trainer.base import Base
    from services.trainer.checkpoints import Checkpoints
    from services.trainer.plan import Plan

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Work:
    """All that a method may use."""

    base: Base
    dataset: Dataset
    features: Features
    parameters: Parameters
    plan: Plan
    progress: Progress
    stop: Stop
    checkpoints: Checkpoints


@dataclass(frozen=True, slots=True)
class OutOfSampleLogits:
    """Answers of models that never saw the text."""

    rows: Rows
    """(judged,) which texts of the data set have such an answer."""
    logits: Floats
    """(judged, labels)."""
    learnable: Flags
    """(judged,) False where the text's label had no example in what its model was trained on."""
    parts: Rows
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
class Fitted:
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


class MakesModel(Protocol):
    """A way to make a model."""

    def __call__(self, work: Work) -> Fitted:
        """Train, with out-of-sample answers on the way. Raises Preempted after a checkpoint."""
        ...


def method_of(method: Method) -> MakesModel:
    """The function behind a name."""
    if method is Method.LINEAR_PROBE:
        from services.trainer.methods.linear_probe import linear_probe

        return linear_probe
    if method is Method.FINETUNE:
        from services.trainer.methods.finetune import finetune

        return finetune
    from services.trainer.methods.lp_ft import lp_ft

    return lp_ft
