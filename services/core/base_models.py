"""Files of a base model, as the trainer reads them and `fitloop models push` uploads them.

The layout is that of transformers or sentence-transformers. Only safetensors, JSON and vocabularies count.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model")
"""Patterns of file names, in any subfolder."""
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


def is_file_of_a_model(name: str) -> bool:
    """Return whether a file, by its name or key, belongs to a base model. Hidden files do not."""
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") for part in parts) and any(fnmatch(parts[-1], one) for one in FILES)


def transformer_of(folder: Path) -> Path:
    """Return the folder of sentence-transformers' first module, or the folder itself in any other layout."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        path = folder / str(modules[0]["path"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return folder
    return path


def weights_in(source: Path) -> list[Path]:
    """List the weight files; none if config.json is missing."""
    return sorted(source.glob("model*.safetensors")) if (source / "config.json").is_file() else []


def has_tokenizer(source: Path) -> bool:
    """Return whether the folder has a tokenizer's vocabulary. Without one, transformers builds a tokenizer that knows no word."""
    return any(found for pattern in _TOKENIZERS for found in source.glob(pattern))


def missing_in(folder: Path) -> str:
    """Return why the folder is not a base model, as the end of a sentence; "" if it is one."""
    if not folder.is_dir():
        return "there is no such folder"
    source = transformer_of(folder)
    if not weights_in(source):
        return "config.json or model.safetensors is missing"
    if not has_tokenizer(source):
        return "its tokenizer (tokenizer.json or vocab.txt) is missing"
    return ""
