"""How many texts a model reads only the beginning of, and what reading more would cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer

from services.core.domain import Truncation
from services.engine.tokenise import encode, max_tokens, most_tokens, whole_lengths
from services.trainer.data.base_model import BaseModel

_ANY: Final = sys.maxsize


def truncation_of(base: BaseModel, texts: Sequence[str]) -> Truncation:
    """Of the texts as the base model reads them."""
    limit = most_tokens(base.config.to_dict(), _ANY)
    return measure(base.tokenizer, texts, 0 if limit == _ANY else limit)


def measure(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> Truncation:
    """Of the texts with a prepared tokenizer; `most`: tokens that the model can read, 0 for any number."""
    length = max_tokens(tokenizer)
    read = [len(ids) for ids in encode(tokenizer, texts)]
    full = [row for row, tokens in enumerate(read) if tokens >= length]
    whole = dict(zip(full, whole_lengths(tokenizer, [texts[row] for row in full]), strict=True))
    cut = [tokens for tokens in whole.values() if tokens > length]
    readable = [min(whole.get(row, tokens), most or _ANY) for row, tokens in enumerate(read)]
    return Truncation(
        texts=len(texts),
        cut=len(cut),
        longest=max(cut, default=max(read, default=0)),
        max_length=length,
        most=most,
        cost=round(sum(readable) / max(1, sum(read)), 2),
    )
