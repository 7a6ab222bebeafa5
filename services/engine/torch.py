"""The torch engine, fp32 on CPUs, bf16 or fp16 on a GPU: serves every architecture that transformers supports.

Imported only when needed. With a pooler the folder is an encoder, else a classifier for AutoModelForSequenceClassification, whose
logits take the place of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, signature
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine.compute import Features, TokenIds
from services.engine.pooling import Pooler

_SIMPLE = {"use_cache": False, "use_mamba_kernels": False}


class TorchEngine:
    """The fp32 model; on `cuda` in bf16, or in fp16 on GPUs before Ampere, which have no bf16. `threads` None keeps torch's process-wide number of threads."""

    kind = "torch-fp32"

    def __init__(
        self,
        folder: Path,
        pooler: Pooler | None,
        width: int,
        pad_id: int,
        threads: int | None = None,
        device: str = "cpu",
        *,
        padded: bool = True,
    ) -> None:
        """`padded` False: padding would change the answers, so only texts of the same length share a batch."""
        if threads is not None:
            torch.set_num_threads(threads)
        self.pooler = pooler
        self.width = width
        auto = transformers.AutoModel if pooler else transformers.AutoModelForSequenceClassification
        self.model: Any = load_pretrained(auto, folder, pad_id)
        self._pad_id = pad_id
        self._padded = padded
        self._device = find_device(device)
        if device == "cuda":
            old = self._device.type == "cuda" and not has_bf16(self._device)
            self.kind = "torch-fp16" if old else "torch-bf16"
            self.model = self.model.to(self._device, torch.float16 if old else torch.bfloat16)

    def forward(self, batch: Sequence[TokenIds]) -> Features:
        if self.model is None:
            raise EngineError("The model was closed.")
        if self._padded:
            return self._features(self.model, batch)
        lengths = np.array([len(ids) for ids in batch])
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        found = [self._features(self.model, [batch[row] for row in rows]) for rows in groups]
        return np.asarray(np.concatenate(found)[np.argsort(np.concatenate(groups))])

    def _features(self, model: Any, batch: Sequence[TokenIds]) -> Features:
        ids, mask = pad_batch(batch, self._pad_id, self._device)
        try:
            with torch.inference_mode():
                output = forward(encoder_of(model) if self.pooler else model, ids, mask)
        except Exception as error:  # architectures raise any kind of error
            raise EngineError(
                f"torch could not compute a batch of {len(batch)} texts: {safe_reason(error)}"
            ) from error
        if self.pooler is None:
            return np.asarray(output.logits.float().cpu().numpy(), dtype=np.float32)
        hidden, lengths = output.last_hidden_state.float(), [len(ids) for ids in batch]
        if self._device.type == "cuda":
            hidden, lengths = reduced(hidden, mask, self.pooler.mode, lengths)
        return self.pooler.pool(hidden.cpu().numpy(), lengths)

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


def has_bf16(device: torch.device) -> bool:
    """Return whether this is a GPU with instructions for bf16: Ampere or newer."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def reduced(
    hidden: torch.Tensor, mask: torch.Tensor, mode: str, lengths: list[int]
) -> tuple[torch.Tensor, list[int]]:
    """Pool the usual modes where the hidden states (texts, tokens, d) are, so that one vector of a text leaves the GPU.

    The answer is hidden states and lengths again, of one token a text, which pooling leaves as they are.
    """
    if mode == "mean":
        real = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(1, keepdim=True) / real.sum(1, keepdim=True), [1] * len(lengths)
    if mode == "cls":
        return hidden[:, :1], [1] * len(lengths)
    return hidden, lengths


def pad_batch(
    batch: Sequence[TokenIds], pad_id: int, device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids padded on the right and the attention mask, both int64 (texts, longest), on `device`.

    To a GPU they are copied from pinned memory while it still computes the batch before.
    """
    lengths = np.array([len(ids) for ids in batch])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(batch), np.int64, int(lengths.sum()))
    found = torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))
    if device is None or device.type != "cuda":
        return found
    return found[0].pin_memory().to(device, non_blocking=True), found[1].pin_memory().to(
        device, non_blocking=True
    )


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
