"""The pre-trained encoder that a run starts from: found, checked and loaded, with its tokenizer.

A name is a folder (plain transformers or sentence-transformers' layout), a hub id, or s3://bucket/prefix/ in the object
storage of the settings; the hub is asked only when its files are not in the local cache. Only safetensors and JSON are
read, and no code from the model runs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from services.core.base_models import FILES, is_file_of_a_model, transformer_of, weights_in
from services.core.errors import BadConfig, EngineError, StoreError
from services.core.redaction import why
from services.core.store import open_store
from services.engine.tokenise import most_tokens, pad_id_of, prepare
from services.engine.torch import load_pretrained

_FILES = list(FILES)


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
    source = transformer_of(_locate(name))
    weights = weights_in(source)
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
    if name.startswith("s3://"):
        return _fetch(name)
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _download(name)


def _fetch(url: str) -> Path:
    """A local folder with the model's files, copied once. Raises StoreUnreachable, which may pass."""
    try:
        store = open_store(url)
        keys = [key for key in store.keys("") if is_file_of_a_model(key)]
        if not keys:
            raise _unusable(url, "there is no model below it (`fitloop models push DIR` puts one there)")
        paths = [store.local(key) for key in keys]
        folder = paths[0].parents[keys[0].count("/")]
        for path in {path for path in folder.rglob("*") if path.is_file()} - set(paths):
            store.forget(path.relative_to(folder).as_posix())  # of another model that was there before
    except StoreError as error:
        if error.passing:
            raise
        raise _unusable(url, str(error).rstrip(".")) from error
    return folder


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        cached = Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
        if weights_in(transformer_of(cached)):
            return cached
    except HFValidationError as error:
        raise _unusable(name, "there is no such folder, and it is no hub id either") from error
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise _unusable(
            name, f"there is no such folder, and the hub did not give it ({why(error)})"
        ) from error


def _tokenizer(name: str, source: Path) -> Tokenizer:
    try:
        if (source / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(source / "tokenizer.json"))
        # Only the slow format is there: transformers converts it once, and the artefact has tokenizer.json.
        return transformers.AutoTokenizer.from_pretrained(source, local_files_only=True).backend_tokenizer
    except Exception as error:  # `tokenizers` raises bare Exception, transformers what it likes
        raise _unusable(name, f"its tokenizer cannot be read: {why(error)}") from error


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
        "Set BASELINE_MODEL_NAME to a folder, an s3://bucket/prefix/ or a hub id that this machine can reach, with "
        "model.safetensors."
    )
