"""What a version is on disk: a head for the features of an encoder, or a whole model where the classifier is more than that.

The encoder is in the bucket before its head is. What was written is read back and compared before anything is published.
"""

from __future__ import annotations

from pathlib import Path

from services.core.errors import StoreError
from services.core.registry import Registry
from services.engine.head import FILE, Head, Layer, read_head
from services.trainer.data import RunInputs
from services.trainer.data.features import Features, Floats
from services.trainer.evaluation import Candidate
from services.trainer.publishing.made import MadeVersion, check_logits, made_of_head


def write_version(
    folder: Path, registry: Registry, inputs: RunInputs, candidate: Candidate, features: Features
) -> MadeVersion:
    """Write the head of the trained model into `folder`, or all of it. Raises EngineError, StoreError."""
    trained = candidate.trained
    try:
        if trained.model is not None:
            from services.trainer.publishing.trained import write_trained

            return write_trained(folder, registry, inputs, candidate)
        assert trained.head is not None  # noqa: S101 - of a model without weights of its own
        layers = (Layer(trained.head.weight, trained.head.bias),)
        head = Head(layers, candidate.temperature, trained.thresholds)
        write_head(folder, head, features.X, trained.logits)
    except OSError as error:
        raise StoreError(
            f"The new version cannot be written to {folder}: {error.strerror or error}."
        ) from error
    return made_of_head(inputs.encoder.manifest)


def write_head(folder: Path, head: Head, features: Floats, logits: Floats) -> None:
    """Write head.safetensors; raise EngineError unless what is read back gives these logits (texts, labels) for the features."""
    head.write(folder)
    check_logits(read_head(folder / FILE).logits(features), logits)
