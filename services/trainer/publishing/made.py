"""A version as it was written, and the comparison of what is read back with the model in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.core.domain import Artefact, EncoderManifest
from services.core.errors import EngineError
from services.engine.model import HEAD
from services.trainer.data.features import Floats

ENGINE: Final = "encoder"
"""`Artefact.engine` of a version that is a head."""


@dataclass(frozen=True, slots=True)
class MadeVersion:
    """What is in a version's folder."""

    artefact: Artefact
    encoder: str = ""
    """The digest of the encoder whose features its head reads; "" for a whole model."""


def made_of_head(encoder: EncoderManifest) -> MadeVersion:
    """Return the description of a version that is a head for features of this encoder."""
    artefact = Artefact(HEAD, ENGINE, encoder.engine_reason, encoder.max_length, 1.0, encoder.padded)
    return MadeVersion(artefact, encoder.digest)


def check_logits(found: Floats, expected: Floats) -> None:
    """Raise EngineError if logits of a model that was read back are not the trained model's, rounding apart."""
    worst = float(np.abs(found - expected).max(initial=0.0))
    # Logits of a GPU are computed in bf16, which has three significant digits.
    if not worst <= 1e-2 + 2e-2 * float(np.abs(expected).max(initial=0.0)):
        raise EngineError(f"The exported model's logits differ from the trained model's (by {worst:.3g}).")
