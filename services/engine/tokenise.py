"""Encode texts as token ids with the `tokenizers` library: no transformers, no padding, one call for all texts.

`tokenizer.json` has whatever padding and truncation its author left in it (all-MiniLM-L6-v2: padded to 128), so both are
always replaced. Texts are first cut to a bounded number of characters, so that a megabyte is cheap. Trainer and engines call
the same `encode`: a model is served with the ids that it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.core.errors import EngineError
from services.core.redaction import safe_reason

CHARACTERS_PER_TOKEN = 16
"""Characters of a text that are considered per token; English has about four."""

# These count positions from pad_token_id + 1, so that the first rows of their table are unused.
_SHIFTED_POSITIONS = (
    *("roberta", "camembert", "data2vec-text", "mpnet", "longformer", "xmod", "esm"),
    *("ibert", "layoutlmv3", "lilt", "luke", "markuplm"),
)
_POSITION_KEYS = ("max_position_embeddings", "n_positions")
_MAX_CHARACTERS = 1_000_000
_PAD_TOKENS = ("[PAD]", "<pad>")
_END_TOKENS = ("</s>", "<|endoftext|>", "<eos>")


def position_limit(config: Mapping[str, Any], max_length: int) -> int:
    """Return `max_length`, or fewer if the model has fewer positions by its config.json."""
    table = next(
        (one for name in _POSITION_KEYS if isinstance(one := _config_value(config, name), int) and one > 0),
        None,
    )
    if table is None:
        return max_length
    shifted = any(name in str(config.get("model_type", "")) for name in _SHIFTED_POSITIONS)
    return max(1, min(max_length, table - max(0, config.get("pad_token_id") or 0) - 1 if shifted else table))


def pad_id_of(config: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    """Return the padding id: the config's, else the tokenizer's, else the end-of-text id, else 0.

    Decoders have no padding id of their own, and their classifiers find a text's last token by it. An id outside the
    model's table, as the -1 of old configs, does not count.
    """
    ends = _config_value(config, "eos_token_id")
    candidates = [
        _config_value(config, "pad_token_id"),
        *map(tokenizer.token_to_id, _PAD_TOKENS),
        *(ends if isinstance(ends, list) else [ends]),
        *map(tokenizer.token_to_id, _END_TOKENS),
    ]
    table = _config_value(config, "vocab_size")
    most = table if isinstance(table, int) else tokenizer.get_vocab_size()
    return next((one for one in candidates if isinstance(one, int) and 0 <= one < most), 0)


def _config_value(config: Mapping[str, Any], name: str) -> Any:
    """Return a value of config.json, for multimodal models also from its part about texts."""
    inner = config.get("text_config")
    own = config.get(name)
    return inner.get(name) if own is None and isinstance(inner, Mapping) else own


def configure_tokenizer(tokenizer: Tokenizer, max_length: int) -> Tokenizer:
    """Set the tokenizer to truncate at `max_length` tokens and not to pad, and return it."""
    tokenizer.encode_special_tokens = True  # a literal "</s>" in a text is plain text
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def truncation_length(tokenizer: Tokenizer) -> int:
    """Return the length at which a configured tokenizer truncates."""
    truncation = tokenizer.truncation
    if truncation is None:
        raise EngineError("The tokenizer has no truncation length: configure it first.")
    return int(truncation["max_length"])


def check_vocabulary(config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Raise EngineError if an id may lie beyond the model's embedding table, which not every engine detects."""
    known, table = tokenizer.get_vocab_size(), config.get("vocab_size")
    if isinstance(table, int) and known > table:
        raise EngineError(f"The tokenizer has {known} tokens, more than the {table} of the model.")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the model's config.json. Raises EngineError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"{path.name} of the model cannot be read: {safe_reason(error)}") from error
    if not isinstance(config, dict):
        raise EngineError(f"{path.name} of the model is not a JSON object.")
    return config


def open_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """Read the tokenizer of a model's folder, truncating at `max_length` or the model's limit. Raises EngineError."""
    length = position_limit(read_config(folder), max_length)
    try:
        return configure_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), length)
    except Exception as error:  # the library raises bare Exception
        raise EngineError(f"tokenizer.json of the model cannot be read: {safe_reason(error)}") from error


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, with special tokens, truncated as configured; no row is empty."""
    limit = CHARACTERS_PER_TOKEN * truncation_length(tokenizer)
    found = tokenizer.encode_batch_fast([_clean(text[:limit]) for text in texts])
    return [encoding.ids or [0] for encoding in found]


def untruncated_lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Return the token count of each text without truncation; of very long texts, of their first million characters."""
    uncut = Tokenizer.from_str(tokenizer.to_str())
    uncut.encode_special_tokens = True
    uncut.no_truncation()
    return [len(uncut.encode(_clean(text[:_MAX_CHARACTERS])).ids) for text in texts]


def _clean(text: str) -> str:
    # A lone surrogate is a valid Python str and valid JSON, but no Unicode text: the library would raise.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
