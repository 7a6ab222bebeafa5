"""What a run is made of: the project, its labels with their texts, and the base model with its encoder.

The parameters of training come from request.json and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.core import documents
from services.core.domain import LabelSpace, Method, Parameters, Project
from services.trainer.data.base_encoder import BaseEncoder
from services.trainer.data.dataset import Dataset

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel
    from services.trainer.data.run_pool import RunPool


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What versions are made of."""

    project: Project
    space: LabelSpace
    encoder: BaseEncoder
    load_base: Callable[[], BaseModel]
    """Returns the base model, which is loaded once, when a method needs its weights: torch and transformers take seconds."""
    dataset: Dataset
    pool: RunPool | None = None
    """The unlabelled tasks; None in processes other than rank 0."""

    def fingerprint(self, method: Method, parameters: Parameters) -> str:
        """Return a hash that changes with everything the weights of a method depend on."""
        examples = [(example.key, example.labels or example.label) for example in self.dataset.examples]
        settings = documents.to_plain(replace(parameters, model_name=None))
        everything = [method, self.encoder.digest, settings, self.dataset.labels, examples]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
