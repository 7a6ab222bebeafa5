"""The torch engine, fp32 on CPUs and bf16 on a GPU: serves every architecture that transformers supports.

Imported only when needed. Two layouts: a folder for AutoModelForSequenceClassification, and sentence-transformers', where
transformers computes the encoder and `head` the rest.
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
    """The fp32 model, in bf16 on `cuda`. `threads` None keeps torch's process-wide number of threads."""

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
        """`padded` False: padding would change the answers, so only texts of the same length share a batch."""
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
            raise EngineError(f"The model has {outputs} outputs, and its manifest names {labels} labels.")

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        if self.model is None:
            raise EngineError("The model was closed.")
        if self._padded:
            return self._logits(self.model, batch)
        lengths = np.array([len(ids) for ids in batch])
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        logits = [self._logits(self.model, [batch[row] for row in rows]) for rows in groups]
        return np.asarray(np.concatenate(logits)[np.argsort(np.concatenate(groups))])

    def _logits(self, model: Any, batch: Sequence[TokenIds]) -> Logits:
        ids, mask = (one.to(self._device) for one in pad_batch(batch, self._pad_id))
        try:
            with torch.inference_mode():
                output = forward(encoder_of(model) if self.head else model, ids, mask)
        except Exception as error:  # architectures raise any kind of error
            raise EngineError(
                f"torch could not compute a batch of {len(batch)} texts: {safe_reason(error)}"
            ) from error
        if self.head is None:
            return np.asarray(output.logits.float().cpu().numpy(), dtype=np.float32)
        return self.head.logits(output.last_hidden_state.float().cpu().numpy(), [len(ids) for ids in batch])

    def close(self) -> None:
        self.model = None


def find_device(name: str) -> torch.device:
    """Return the device called `cpu` or `cuda`. Raises EngineError if there is no GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            "FITLOOP_DEVICE is cuda, but this process finds no GPU: give the pod a GPU, or set it to cpu."
        )
    return torch.device(name)


def gpu_memory() -> int:
    """Return the bytes of GPU memory reserved by this process; 0 before it uses a GPU."""
    return torch.cuda.memory_reserved()


def pad_batch(batch: Sequence[TokenIds], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids padded on the right and the attention mask, both int64 (texts, longest)."""
    longest = max(len(ids) for ids in batch)
    ids = torch.full((len(batch), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, : len(tokens)] = 1
    return ids, mask


def encoder_of(model: Any) -> Any:
    """Return the encoder of an encoder-decoder model, else the model itself."""
    return model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model


def forward(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """Return the model's output for ids and mask, both (texts, tokens); some architectures accept no mask."""
    parameters = signature(model.forward).parameters
    if "attention_mask" in parameters or any(
        one.kind is Parameter.VAR_KEYWORD for one in parameters.values()
    ):
        return model(input_ids=ids, attention_mask=mask)
    return model(input_ids=ids)


def load_pretrained(auto: Any, folder: Path, pad_id: int | None = None, **changes: Any) -> Any:
    """Load a model in fp32 for inference, only from this folder's safetensors: no network, no code. Raises EngineError.

    `auto` is one of transformers' AutoModel classes; `changes` are made to its config, as num_labels.
    """
    return load_and_list_missing(auto, folder, pad_id, **changes)[0]


def load_and_list_missing(
    auto: Any, folder: Path, pad_id: int | None = None, **changes: Any
) -> tuple[Any, frozenset[str]]:
    """Load as `load_pretrained` does; also return the names of weights missing in the folder, which are random."""
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
            in changes,  # the head for another label space, which is replaced
        )
    except Exception as error:  # architectures raise any kind of error
        raise EngineError(f"transformers cannot load the model: {safe_reason(error)}") from error
    return model.eval(), frozenset(found["missing_keys"])


def _simplify(config: Any, pad_id: int | None) -> None:
    """Turn off the generation cache, kernels of other packages, and attention that depends on the length."""
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
