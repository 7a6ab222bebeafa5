from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from tokenizers import Tokenizer

from services.core.errors import EngineError
from services.engine.tokenise import (
    CHARACTERS_PER_TOKEN,
    encode,
    open_tokenizer,
    pad_id_of,
    position_limit,
    truncation_length,
)
from tests.support.base_models import build_tiny_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


def test_encode_truncates_and_never_pads(folder: Path) -> None:
    tokenizer = open_tokenizer(folder, 16)
    assert truncation_length(tokenizer) == 16
    assert [len(ids) for ids in encode(tokenizer, ["my order", "order " * 100, ""])] == [4, 16, 2]


def test_author_padding_and_truncation_are_replaced(folder: Path, tmp_path: Path) -> None:
    """all-MiniLM-L6-v2's tokenizer.json pads and truncates every text to 128 tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text("{}")
    assert [len(ids) for ids in encode(open_tokenizer(tmp_path, 16), ["my order", "order " * 100])] == [4, 16]


def test_encoding_a_megabyte_is_fast(folder: Path) -> None:
    """Only a bounded number of characters reaches the tokenizer."""
    tokenizer = open_tokenizer(folder, 16)
    handed = Mock(wraps=tokenizer, truncation=tokenizer.truncation)
    assert [len(ids) for ids in encode(handed, ["a very long text " * 600_000])] == [16]
    ((texts,), _) = handed.encode_batch_fast.call_args
    assert [len(text) for text in texts] == [16 * CHARACTERS_PER_TOKEN]


def test_lone_surrogate_is_encoded(folder: Path) -> None:
    assert encode(open_tokenizer(folder, 16), ["my order \ud83d"])


def test_encoded_rows_are_never_empty(folder: Path) -> None:
    """Some tokenizers add no special tokens, and engines cannot compute empty rows."""
    tokenizer = open_tokenizer(folder, 16)
    tokenizer.post_processor = None
    assert encode(tokenizer, [""]) == [[0]]


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({}, 256),
        ({"max_position_embeddings": 512, "model_type": "bert"}, 256),
        ({"max_position_embeddings": 128, "model_type": "bert"}, 128),
        ({"max_position_embeddings": 130, "model_type": "xlm-roberta", "pad_token_id": 1}, 128),
        ({"max_position_embeddings": -1, "model_type": "xlnet"}, 256),
        ({"n_positions": 100}, 100),
    ],
)
def test_position_limit(config: dict[str, object], most: int) -> None:
    assert position_limit(config, 256) == most


def test_pad_id_from_config_then_tokenizer_then_0(folder: Path) -> None:
    tokenizer = open_tokenizer(folder, 16)
    assert pad_id_of({"pad_token_id": 7}, tokenizer) == 7
    assert pad_id_of({}, tokenizer) == tokenizer.token_to_id("[PAD]")
    assert pad_id_of({}, Tokenizer.from_str(tokenizer.to_str().replace("[PAD]", "[NOT]"))) == 0


def test_unconfigured_tokenizer_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match="configure"):
        encode(Tokenizer.from_file(str(folder / "tokenizer.json")), ["a"])


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_invalid_config_is_an_engine_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(EngineError, match=r"config\.json"):
        open_tokenizer(tmp_path, 16)


def test_invalid_tokenizer_is_an_engine_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(EngineError, match=r"tokenizer\.json"):
        open_tokenizer(tmp_path, 16)
