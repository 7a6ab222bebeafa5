"""Texts to token ids, with the raw `tokenizers` library: no transformers, no padding, one call for all texts.

`tokenizer.json` carries whatever padding and truncation its author left in it (all-MiniLM-L6-v2: padded to 128), so
both are always set afresh here. Texts are cut to a bounded number of characters first: a megabyte costs nothing.
Trainer and engines call the same `encode`, so that a model is served with the ids that it was trained on.
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
"""Characters of a text that are looked at for each token that may be read; English has about four a token."""

# These count positions from pad_token_id + 1, so that many rows of their table stand for no token.
_SHIFTED_POSITIONS = (
    *("roberta", "camembert", "data2vec-text", "mpnet", "longformer", "xmod", "esm"),
    *("ibert", "layoutlmv3", "lilt", "luke", "markuplm"),
)
_POSITION_KEYS = ("max_position_embeddings", "n_positions")
_MAX_CHARACTERS = 1_000_000
_PAD_TOKENS = ("[PAD]", "<pad>")
_END_TOKENS = ("</s>", "<|endoftext|>", "<eos>")


def position_limit(config: Mapping[str, Any], max_length: int) -> int:
    """`max_length`, or fewer where the model (its config.json) has fewer positions."""
    table = next(
        (one for name in _POSITION_KEYS if isinstance(one := _config_value(config, name), int) and one > 0),
        None,
    )
    if table is None:
        return max_length
    shifted = any(name in str(config.get("model_type", "")) for name in _SHIFTED_POSITIONS)
    return max(1, min(max_length, table - max(0, config.get("pad_token_id") or 0) - 1 if shifted else table))


def pad_id_of(config: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    """The id that fills up short rows: the config's, else the tokenizer's, else that of a text's end, else 0.

    Decoders have none of their own, and their classifiers find a text's last token by it. One outside the model's table,
    as the -1 of old configs, is none.
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
    """What config.json says, at its top or, for a model of more than texts, in the part about texts."""
    inner = config.get("text_config")
    own = config.get(name)
    return inner.get(name) if own is None and isinstance(inner, Mapping) else own


def configure_tokenizer(tokenizer: Tokenizer, max_length: int) -> Tokenizer:
    """The same tokenizer, set to cut at `max_length` tokens and not to pad."""
    tokenizer.encode_special_tokens = True  # "</s>" in a text is what somebody wrote, and ends nothing
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def truncation_length(tokenizer: Tokenizer) -> int:
    """Where a prepared tokenizer cuts."""
    truncation = tokenizer.truncation
    if truncation is None:
        raise EngineError("The tokenizer does not say where to cut: prepare it first.")
    return int(truncation["max_length"])


def check_vocabulary(config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Raises EngineError where an id may lie beyond the model's table, which not every engine notices."""
    known, table = tokenizer.get_vocab_size(), config.get("vocab_size")
    if isinstance(table, int) and known > table:
        raise EngineError(f"The tokenizer knows {known} tokens, more than the {table} of the model.")


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json. Raises EngineError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"{path.name} of the model cannot be read: {safe_reason(error)}") from error
    if not isinstance(config, dict):
        raise EngineError(f"{path.name} of the model is no JSON object.")
    return config


def open_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """The tokenizer of a model's folder, cutting at `max_length` or at the model's positions. Raises EngineError."""
    length = position_limit(read_config(folder), max_length)
    try:
        return configure_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), length)
    except Exception as error:  # the library raises bare Exception
        raise EngineError(f"tokenizer.json of the model cannot be read: {safe_reason(error)}") from error


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut where `prepare` said; never an empty row."""
    limit = CHARACTERS_PER_TOKEN * truncation_length(tokenizer)
    found = tokenizer.encode_batch_fast([_clean(text[:limit]) for text in texts])
    return [encoding.ids or [0] for encoding in found]


def untruncated_lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text if it were not cut; of very long ones, of their first million characters."""
    uncut = Tokenizer.from_str(tokenizer.to_str())
    uncut.encode_special_tokens = True
    uncut.no_truncation()
    return [len(uncut.encode(_clean(text[:_MAX_CHARACTERS])).ids) for text in texts]


def _clean(text: str) -> str:
    # Half a surrogate pair is a str of Python's and valid JSON, but no Unicode text: the library would raise.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
