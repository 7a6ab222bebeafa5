"""What a run is made of: the project, its labels with their texts, and the base model.

The parameters of training come from request.json and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.core import documents
from services.core.domain import LabelSpace, Method, Parameters, Project
from services.trainer.data.dataset import Dataset

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What versions are made of."""

    project: Project
    space: LabelSpace
    base: BaseModel
    dataset: Dataset

    def fingerprint(self, method: Method, parameters: Parameters) -> str:
        """Return a hash that changes with everything the weights of a method depend on."""
        examples = [(example.key, example.label) for example in self.dataset.examples]
        settings = documents.to_plain(replace(parameters, model_name=None))
        everything = [method, self.base.digest, settings, self.dataset.labels, examples]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
