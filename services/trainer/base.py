"""The pre-trained encoder that a run starts from: found, checked and loaded, with its tokenizer.

A name is a folder (plain transformers or sentence-transformers' layout) or a hub id; the hub is asked only when its
files are not in the local cache. Only safetensors and JSON are read, and no code from the model runs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from services.core.errors import BadConfig, EngineError
from services.engine.tokenise import most_tokens, pad_id_of, prepare
from services.engine.torch import load_pretrained

_FILES = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model"]


@dataclass(frozen=True, slots=True)
class Base:
    """`encoder` is an AutoModel in fp32, for inference; `tokenizer` cuts at `max_length` and does not pad."""

    config: Any
    encoder: torch.nn.Module
    tokenizer: Tokenizer
    source: Path
    """The folder with config.json and the weights."""
    digest: str
    """sha256 over the weights' files in the order of their names: lower-case hex."""
    pad_id: int
    max_length: int
    """What was asked for, or fewer where the model has fewer positions."""


def load_base(name: str, max_length: int) -> Base:
    """Load the base model. Raises BadConfig, which says what to set, when it is not there or not readable."""
    source = _transformer_of(_locate(name))
    weights = _weights(source)
    if not weights:
        raise _unusable(name, "config.json and model.safetensors are not both there")
    try:
        encoder = load_pretrained(transformers.AutoModel.from_pretrained, source)
    except EngineError as error:
        raise _unusable(name, str(error)) from error
    config = encoder.config.to_dict()
    length = most_tokens(config, max_length)
    tokenizer = prepare(_tokenizer(name, source), length)
    return Base(
        encoder.config, encoder, tokenizer, source, _digest(weights), pad_id_of(config, tokenizer), length
    )


def _locate(name: str) -> Path:
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _download(name)


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        cached = Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
        if _weights(_transformer_of(cached)):
            return cached
    except HFValidationError as error:
        raise _unusable(name, "there is no such folder, and it is no hub id either") from error
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise _unusable(
            name, f"there is no such folder, and the hub did not give it ({type(error).__name__})"
        ) from error


def _transformer_of(folder: Path) -> Path:
    """The folder of sentence-transformers' first module, where the layout is that."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        path = folder / str(modules[0]["path"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return folder
    return path


def _weights(source: Path) -> list[Path]:
    """The files of weights, or none where config.json is not beside them."""
    return sorted(source.glob("model*.safetensors")) if (source / "config.json").is_file() else []


def _tokenizer(name: str, source: Path) -> Tokenizer:
    try:
        if (source / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(source / "tokenizer.json"))
        # Only the slow format is there: transformers converts it once, and the artefact has tokenizer.json.
        return transformers.AutoTokenizer.from_pretrained(source, local_files_only=True).backend_tokenizer
    except Exception as error:  # `tokenizers` raises bare Exception, transformers what it likes
        raise _unusable(name, f"its tokenizer cannot be read: {error}") from error


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _unusable(name: str, why: str) -> BadConfig:
    return BadConfig(
        f"The base model {name!r} cannot be used: {why}. "
        "Set BASELINE_MODEL_NAME to a folder or a hub id that this machine can reach, with model.safetensors."
    )
