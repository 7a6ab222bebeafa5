"""Weights in safetensors files, read and written with numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from services.core.errors import EngineError
from services.core.redaction import safe_reason

Tensors = dict[str, NDArray[Any]]
_LAST_LAYERS: Final = (
    "classifier.out_proj",
    "classifier",
    "score",
    "classification_head.out_proj",
    "logits_proj",
)
"""What the last layer of a classifier is called, by architecture."""


def read_weights(folder: Path) -> Tensors:
    """Return all weights of an encoder, whatever number of files they are in. Raises EngineError."""
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= _read(path)[0]
    return found


def _read(path: Path) -> tuple[Tensors, dict[str, str]]:
    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
            return tensors, dict(file.metadata() or {"format": "pt"})
    except (OSError, SafetensorError, TypeError) as error:
        raise EngineError(f"{path.name} cannot be read: {safe_reason(error)}") from error


def save(tensors: Mapping[str, NDArray[Any]], path: Path) -> None:
    save_file({name: np.ascontiguousarray(one) for name, one in tensors.items()}, path, {"format": "pt"})


def fold_into_files(
    folder: Path, labels: int, factor: np.float32, shift: NDArray[np.float32] | None = None
) -> bool:
    """Multiply the logits (labels,) of the classifier's last layer and add `shift`; return whether there is one that allows it."""
    for path in folder.glob("*.safetensors"):
        tensors, metadata = _read(path)
        for name in _LAST_LAYERS:
            found = tensors.get(f"{name}.weight")
            if found is not None and found.ndim == 2 and len(found) == labels:
                bias = tensors.get(f"{name}.bias")
                if shift is not None and bias is None:
                    return False
                tensors[f"{name}.weight"] = np.asarray(factor * found, found.dtype)
                if bias is not None:
                    tensors[f"{name}.bias"] = np.asarray(
                        factor * bias + (0 if shift is None else shift), bias.dtype
                    )
                save_file(tensors, path, metadata)
                return True
    return False
