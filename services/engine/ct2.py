"""The int8 engine: CTranslate2 computes the encoder, numpy the pooling. Imports neither torch nor transformers.

The folder has CTranslate2's model (model.bin, config.json, and a dummy vocabulary.json, as the input is ids). All streams share
the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine import processor
from services.engine.compute import Features, TokenIds
from services.engine.pooling import Pooler

processor.choose_ct2_kernels()
import ctranslate2  # noqa: E402  # it reads the choice when it is imported


class Ct2Engine:
    """Computes up to `streams` batches at once, each with `threads` threads. Raises EngineError."""

    def __init__(
        self,
        folder: Path,
        pooler: Pooler,
        width: int,
        streams: int,
        threads: int,
        compute_type: str = "default",
    ) -> None:
        """`compute_type` "float32" computes the int8 weights in fp32, with four times the memory."""
        self.kind = "ct2-fp32" if compute_type == "float32" else "ct2-int8"
        self.width = width
        self._pooler = pooler
        try:
            self._encoder: ctranslate2.Encoder | None = ctranslate2.Encoder(
                str(folder),
                device="cpu",
                inter_threads=streams,
                intra_threads=threads,
                compute_type=compute_type,
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"CTranslate2 cannot load the int8 model: {safe_reason(error)}") from error

    def forward(self, batch: Sequence[TokenIds]) -> Features:
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
        return self._pooler.pool(hidden, [len(ids) for ids in batch])

    def close(self) -> None:
        self._encoder = None
