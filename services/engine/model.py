"""One version in memory: an encoder, its head, and the labels; and how it is loaded.

A version is a head beside a shared encoder, or a whole model in a folder of its own. Only the head knows about labels and
calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.core.domain import Artefact
from services.core.errors import EngineError, UnknownFormat
from services.engine.compute import Features, Logits, Scores
from services.engine.encoder import SMOKE_TEXTS, TextEncoder, open_engine
from services.engine.head import FILE, Head, read_head
from services.engine.tokenise import open_tokenizer
from services.engine.whole_model import read_ct2_head, read_sentence_transformers

HEAD, CLASSIFIER, SENTENCE_TRANSFORMERS = "head", "sequence-classification", "sentence-transformers"


class Model:
    """Thread-safe; call `close` once no request uses it, unless others share its encoder."""

    def __init__(self, labels: tuple[str, ...], encoder: TextEncoder, head: Head) -> None:
        """Raises EngineError unless the head has one output for each label."""
        outputs = head.outputs(encoder.width)
        if outputs != len(labels):
            raise EngineError(
                f"The model has {outputs} outputs, and its manifest names {len(labels)} labels."
            )
        self.labels = labels
        self.encoder = encoder
        self.head = head

    def logits_of(self, texts: Sequence[str]) -> Logits:
        """Compute logits (texts, labels) in this thread, for trainers and tests; servers use the Scheduler."""
        return self.head.logits(self.encoder.features_of(texts))

    def scores_of(self, texts: Sequence[str]) -> Scores:
        """Compute the calibrated probabilities of these texts in this thread, for trainers and tests."""
        return self.scores(self.encoder.features_of(texts))

    def scores(self, features: Features) -> Scores:
        """Return the calibrated probabilities for these features (texts, d)."""
        return Scores(self.labels, self.head.probabilities(features), self.head.thresholds)

    def smoke_test(self) -> None:
        """Raise EngineError unless a few fixed texts get finite logits."""
        if not np.isfinite(self.logits_of(SMOKE_TEXTS)).all():
            raise EngineError("The model failed its smoke test: its logits are not finite.")

    def close(self) -> None:
        """Free the memory."""
        self.encoder.close()


def load_whole_model(
    folder: Path,
    artefact: Artefact,
    labels: tuple[str, ...],
    streams: int,
    threads: int,
    device: str = "cpu",
) -> Model:
    """Load a version that is a whole model, to compute `streams` batches at once with `threads` threads each, or on `cuda`.

    The caller runs `smoke_test`. Raises EngineError if something is wrong with the files, UnknownFormat if a newer release
    made them.
    """
    tokenizer = open_tokenizer(folder, artefact.max_length)
    head: Head | None = None
    if artefact.engine == "ct2-int8" and device == "cpu":
        pooler, layers = read_ct2_head(folder / "ct2")
    elif artefact.layout == SENTENCE_TRANSFORMERS:
        pooler, layers = read_sentence_transformers(folder)
    elif artefact.layout == CLASSIFIER:
        pooler, layers = None, ()
        head = read_head(folder / FILE) if (folder / FILE).is_file() else None
    else:
        raise UnknownFormat(f"The layout {artefact.layout!r} is unknown to this release: upgrade Fitloop.")
    width = layers[0].weight.shape[1] if layers else len(labels)
    engine = open_engine(
        artefact.engine, folder, tokenizer, pooler, width, streams, threads, device, padded=artefact.padded
    )
    return Model(labels, TextEncoder(engine, tokenizer), head or Head(layers, artefact.temperature))
