"""The int8 engine: CTranslate2 computes the encoder, numpy the head. Imports neither torch nor transformers.

The folder `ct2/` has CTranslate2's model (model.bin, config.json, and a dummy vocabulary.json, as the input is ids) and the
head (head.json, head.safetensors). All streams share the weights.
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
    """Computes up to `streams` batches at once, each with `threads` threads. Raises EngineError."""

    kind = "ct2-int8"

    def __init__(self, folder: Path, labels: int, streams: int, threads: int) -> None:
        self._head = read_head(folder)
        if self._head.outputs != labels:
            raise EngineError(
                f"The model has {self._head.outputs} outputs, and its manifest names {labels} labels."
            )
        try:
            self._encoder: ctranslate2.Encoder | None = ctranslate2.Encoder(
                str(folder), device="cpu", inter_threads=streams, intra_threads=threads
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"CTranslate2 cannot load the int8 model: {safe_reason(error)}") from error

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        encoder = self._encoder  # keeps the model alive if it is closed while a batch is being computed
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
        self._encoder = None
