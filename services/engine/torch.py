"""The fp32 engine, bf16 on a GPU: what every architecture that transformers knows can be served with. Imported only when needed.

Two layouts: a folder that AutoModelForSequenceClassification loads, and sentence-transformers',
where transformers computes the encoder and `head` the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from services.core.errors import EngineError, UnknownFormat
from services.core.redaction import why
from services.engine.head import PooledHead, read_sentence_transformers
from services.engine.protocol import Logits, TokenIds

SEQUENCE_CLASSIFICATION = "sequence-classification"
SENTENCE_TRANSFORMERS = "sentence-transformers"


class TorchEngine:
    """The model of record, in bf16 on `cuda`. `threads` None leaves torch's number of threads, which is the process's."""

    kind = "torch-fp32"

    def __init__(
        self,
        folder: Path,
        layout: str,
        labels: int,
        pad_id: int,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.head: PooledHead | None = None
        if layout == SENTENCE_TRANSFORMERS:
            self.head = read_sentence_transformers(folder)
        elif layout != SEQUENCE_CLASSIFICATION:
            raise UnknownFormat(f"The layout {layout!r} is unknown to this release: upgrade Fitloop.")
        auto = transformers.AutoModel if self.head else transformers.AutoModelForSequenceClassification
        self.model: Any = load_pretrained(auto.from_pretrained, folder)
        self._pad_id = pad_id
        self._device = device_called(device)
        if device == "cuda":
            self.kind = "torch-bf16"
            self.model = self.model.to(self._device, torch.bfloat16)
        outputs = self.head.outputs if self.head else self.model.config.num_labels
        if outputs != labels:
            raise EngineError(f"The model answers {outputs} labels, and its manifest names {labels}.")

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        """See Engine."""
        if self.model is None:
            raise EngineError("The model was closed.")
        ids, mask = padded(batch, self._pad_id)
        try:
            with torch.inference_mode():
                output = self.model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineError(
                f"torch could not compute a batch of {len(batch)} texts: {why(error)}"
            ) from error
        if self.head is None:
            return np.asarray(output.logits.float().cpu().numpy(), dtype=np.float32)
        return self.head.logits(output.last_hidden_state.float().cpu().numpy(), [len(ids) for ids in batch])

    def close(self) -> None:
        """See Engine."""
        self.model = None


def device_called(name: str) -> torch.device:
    """`cpu` or `cuda`. Raises EngineError where a GPU was promised and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            "FITLOOP_DEVICE is cuda, and this process finds no GPU: give the pod one, or set it to cpu."
        )
    return torch.device(name)


def gpu_memory() -> int:
    """Bytes of GPU memory that this process keeps: weights, batches, and what it would reuse. 0 before it uses one."""
    return torch.cuda.memory_reserved()


def padded(batch: Sequence[TokenIds], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids filled up on the right, and the mask of the real ones; both int64 (texts, longest)."""
    longest = max(len(ids) for ids in batch)
    ids = torch.full((len(batch), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, : len(tokens)] = 1
    return ids, mask


def load_pretrained(load: Callable[..., Any], folder: Path) -> Any:
    """A model in fp32, for inference, from this folder's safetensors alone: no network, no code. Raises EngineError."""
    logging: Any = transformers.utils.logging  # its functions have no types
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = load(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # each architecture raises what it likes
        raise EngineError(f"transformers cannot load the model: {why(error)}") from error
    return model.eval()
