"""What a folder with a pre-trained encoder must hold, for the trainer that reads it and for `fitloop models push`.

The layout is plain transformers' or sentence-transformers'. Only safetensors, JSON and vocabularies count.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model")
"""By name, in any folder below."""
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


def is_file_of_a_model(name: str) -> bool:
    """Whether a file, by its name or key, belongs to a base model; hidden ones do not."""
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") for part in parts) and any(fnmatch(parts[-1], one) for one in FILES)


def transformer_of(folder: Path) -> Path:
    """The folder of sentence-transformers' first module, where the layout is that."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        path = folder / str(modules[0]["path"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return folder
    return path


def weights_in(source: Path) -> list[Path]:
    """The files of weights, or none where config.json is not beside them."""
    return sorted(source.glob("model*.safetensors")) if (source / "config.json").is_file() else []


def has_tokenizer(source: Path) -> bool:
    """Whether a tokenizer's vocabulary is in the folder; without one, transformers makes a tokenizer that knows no word."""
    return any(found for pattern in _TOKENIZERS for found in source.glob(pattern))


def missing_in(folder: Path) -> str:
    """Why the folder is no base model, as the end of a sentence; "" where it is one."""
    if not folder.is_dir():
        return "there is no such folder"
    source = transformer_of(folder)
    if not weights_in(source):
        return "config.json and model.safetensors are not both there"
    if not has_tokenizer(source):
        return "its tokenizer (tokenizer.json or vocab.txt) is not there"
    return ""
