"""The int8 engine: CTranslate2 computes the encoder, numpy the head. Imports neither torch nor transformers.

The folder `ct2/` holds CTranslate2's model (model.bin, config.json, vocabulary.json, which is a dummy because ids are
handed over) and the head (head.json, head.safetensors). Weights are shared by all streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine.compute import Logits, TokenIds
from services.engine.head import read_head


class Ct2Engine:
    """`streams` batches may be computed at once, each by `threads` threads. Raises EngineError."""

    kind = "ct2-int8"

    def __init__(self, folder: Path, labels: int, streams: int, threads: int) -> None:
        self._head = read_head(folder)
        if self._head.outputs != labels:
            raise EngineError(
                f"The model answers {self._head.outputs} labels, and its manifest names {labels}."
            )
        try:
            self._encoder: ctranslate2.Encoder | None = ctranslate2.Encoder(
                str(folder), device="cpu", inter_threads=streams, intra_threads=threads
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"CTranslate2 cannot load the int8 model: {safe_reason(error)}") from error

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        """See Engine."""
        encoder = self._encoder  # a batch that is being computed keeps the model alive through close()
        if encoder is None:
            raise EngineError("The model was closed.")
        try:
            output = encoder.forward_batch([list(ids) for ids in batch])
            hidden = np.asarray(output.last_hidden_state)
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"CTranslate2 could not compute a batch of {len(batch)} texts: {safe_reason(error)}"
            ) from error
        return self._head.logits(hidden, [len(ids) for ids in batch])

    def close(self) -> None:
        """See Engine."""
        self._encoder = None
