"""The tokenizer of an exported version: the files as they are, and what other libraries read beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from services.cli.exporting import Source, read_json, write_json

_COPIED: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "README.md",
    "LICENSE*",
    "NOTICE*",
)


def copy_tokenizer(folder: Path, source: Source) -> None:
    """Copy the tokenizer, licence and card of the version's model, and complete them."""
    for path in (path for pattern in _COPIED for path in source.model_folder.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    config = read_json(source.model_folder / "config.json")
    complete_tokenizer(folder, config, source.manifest.artefact.max_length)


def complete_tokenizer(folder: Path, config: Mapping[str, Any], max_length: int) -> None:
    """Have AutoTokenizer read tokenizer.json as it is, pad as the model does, and truncate where Fitloop does."""
    path = folder / "tokenizer_config.json"
    known = read_json(path) or {"tokenizer_class": "PreTrainedTokenizerFast"}
    pad_id = config.get("pad_token_id")
    if isinstance(pad_id, int) and not known.get("pad_token"):
        known["pad_token"] = _token_of(read_json(folder / "tokenizer.json"), pad_id)
    write_json(path, {**known, "model_max_length": max_length})


def _token_of(tokenizer: Mapping[str, Any], number: int) -> str | None:
    """Return the token with this id from the content of a tokenizer.json."""
    added = {one.get("id"): one.get("content") for one in tokenizer.get("added_tokens") or ()}
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    known = {number: token for token, number in vocabulary.items()} if isinstance(vocabulary, dict) else {}
    found = added.get(number) or known.get(number)
    return str(found) if found else None
