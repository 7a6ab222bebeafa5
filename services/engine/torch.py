"""The fp32 engine, bf16 on a GPU: what every architecture that transformers knows can be served with. Imported only when needed.

Two layouts: a folder that AutoModelForSequenceClassification loads, and sentence-transformers',
where transformers computes the encoder and `head` the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from services.core.errors import EngineError, UnknownFormat
from services.core.redaction import safe_reason
from services.engine.compute import Logits, TokenIds
from services.engine.head import PooledHead, read_sentence_transformers

SEQUENCE_CLASSIFICATION = "sequence-classification"
SENTENCE_TRANSFORMERS = "sentence-transformers"
_SIMPLE = {"use_cache": False, "use_mamba_kernels": False}


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
        *,
        padded: bool = True,
    ) -> None:
        """`padded` False: padding would change the answers, so that texts of one length alone share a batch."""
        if threads is not None:
            torch.set_num_threads(threads)
        self.head: PooledHead | None = None
        if layout == SENTENCE_TRANSFORMERS:
            self.head = read_sentence_transformers(folder)
        elif layout != SEQUENCE_CLASSIFICATION:
            raise UnknownFormat(f"The layout {layout!r} is unknown to this release: upgrade Fitloop.")
        auto = transformers.AutoModel if self.head else transformers.AutoModelForSequenceClassification
        self.model: Any = load_pretrained(auto, folder, pad_id)
        self._pad_id = pad_id
        self._padded = padded
        self._device = find_device(device)
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
        if self._padded:
            return self._logits(self.model, batch)
        lengths = np.array([len(ids) for ids in batch])
        parts = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        found = [self._logits(self.model, [batch[row] for row in rows]) for rows in parts]
        return np.asarray(np.concatenate(found)[np.argsort(np.concatenate(parts))])

    def _logits(self, model: Any, batch: Sequence[TokenIds]) -> Logits:
        ids, mask = (one.to(self._device) for one in pad_batch(batch, self._pad_id))
        try:
            with torch.inference_mode():
                output = forward(encoder_of(model) if self.head else model, ids, mask)
        except Exception as error:  # each architecture raises what it likes
            raise EngineError(
                f"torch could not compute a batch of {len(batch)} texts: {safe_reason(error)}"
            ) from error
        if self.head is None:
            return np.asarray(output.logits.float().cpu().numpy(), dtype=np.float32)
        return self.head.logits(output.last_hidden_state.float().cpu().numpy(), [len(ids) for ids in batch])

    def close(self) -> None:
        """See Engine."""
        self.model = None


def find_device(name: str) -> torch.device:
    """`cpu` or `cuda`. Raises EngineError where a GPU was promised and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            "FITLOOP_DEVICE is cuda, and this process finds no GPU: give the pod one, or set it to cpu."
        )
    return torch.device(name)


def gpu_memory() -> int:
    """Bytes of GPU memory that this process keeps: weights, batches, and what it would reuse. 0 before it uses one."""
    return torch.cuda.memory_reserved()


def pad_batch(batch: Sequence[TokenIds], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids filled up on the right, and the mask of the real ones; both int64 (texts, longest)."""
    longest = max(len(ids) for ids in batch)
    ids = torch.full((len(batch), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, : len(tokens)] = 1
    return ids, mask


def encoder_of(model: Any) -> Any:
    """What reads a text, of a model that would write an answer to it as well."""
    return model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model


def forward(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """The model's output for ids and mask, both (texts, tokens); some architectures take no mask."""
    taken = signature(model.forward).parameters
    if "attention_mask" in taken or any(one.kind is Parameter.VAR_KEYWORD for one in taken.values()):
        return model(input_ids=ids, attention_mask=mask)
    return model(input_ids=ids)


def load_pretrained(auto: Any, folder: Path, pad_id: int | None = None, **changes: Any) -> Any:
    """A model in fp32, for inference, from this folder's safetensors alone: no network, no code. Raises EngineError.

    `auto`: one of transformers' AutoModel classes. `changes` to its config, as num_labels.
    """
    return load_and_list_missing(auto, folder, pad_id, **changes)[0]


def load_and_list_missing(
    auto: Any, folder: Path, pad_id: int | None = None, **changes: Any
) -> tuple[Any, frozenset[str]]:
    """As `load_pretrained`, with the names of the weights that the folder does not hold, which are random."""
    logging: Any = transformers.utils.logging  # its functions have no types
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        _simplify(config, pad_id)
        for name, value in changes.items():
            setattr(config, name, value)
        model, found = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes="num_labels"
            in changes,  # the head of another question, which is replaced
        )
    except Exception as error:  # each architecture raises what it likes
        raise EngineError(f"transformers cannot load the model: {safe_reason(error)}") from error
    return model.eval(), frozenset(found["missing_keys"])


def _simplify(config: Any, pad_id: int | None) -> None:
    """No cache for texts that are read once, no kernels of other packages, attention that does not depend on the length."""
    for part in (config, config.get_text_config()):
        for name, value in _SIMPLE.items():
            if getattr(part, name, None) is True:
                setattr(part, name, value)
        if getattr(part, "attention_type", None) == "block_sparse":
            part.attention_type = "original_full"
        if pad_id is not None:
            part.pad_token_id = pad_id
    if (
        config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None
    ):  # as T5 begins its answers
        config.decoder_start_token_id = config.pad_token_id
