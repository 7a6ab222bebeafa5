"""The int8 engine of architectures that CTranslate2 lacks: ONNX Runtime computes the encoder, numpy the pooling.

The folder has one graph, model.onnx, from ids and mask to hidden states, its products quantised to int8. Imports neither torch nor
transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine.compute import Features, TokenIds
from services.engine.pooling import Pooler

GRAPH: Final = "model.onnx"
INPUTS: Final = ("input_ids", "attention_mask")
OUTPUT: Final = "hidden"
Ids = NDArray[np.int64]


class OrtEngine:
    """Computes each batch with `threads` threads, several batches at once if several threads call it. Raises EngineError."""

    kind = "ort-int8"

    def __init__(self, folder: Path, pooler: Pooler, width: int, pad_id: int, threads: int) -> None:
        self.width = width
        self._pooler = pooler
        self._pad_id = pad_id
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False  # it keeps the memory of the largest batch that there ever was
        options.log_severity_level = 3
        try:
            self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
                str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no class
            raise EngineError(f"ONNX Runtime cannot load the int8 model: {safe_reason(error)}") from error

    def forward(self, batch: Sequence[TokenIds]) -> Features:
        session = self._session  # keeps the model alive if it is closed while a batch is being computed
        if session is None:
            raise EngineError("The model was closed.")
        lengths = [len(ids) for ids in batch]
        try:
            (hidden,) = session.run([OUTPUT], dict(zip(INPUTS, _padded(batch, self._pad_id), strict=True)))
        except Exception as error:  # its errors share no class
            raise EngineError(
                f"ONNX Runtime could not compute a batch of {len(batch)} texts: {safe_reason(error)}"
            ) from error
        return self._pooler.pool(hidden, lengths)

    def close(self) -> None:
        self._session = None


def _padded(batch: Sequence[TokenIds], pad_id: int) -> tuple[Ids, Ids]:
    """Return the ids padded on the right, and the mask, both (texts, longest)."""
    lengths = np.array([len(ids) for ids in batch])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(batch), np.int64, int(lengths.sum()))
    return ids, mask.astype(np.int64)
