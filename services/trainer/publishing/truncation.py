"""Texts that the encoder truncates: how many, what reading more of them would cost, and how well they are answered."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from services.core.domain import CutTexts, Truncation
from services.engine.tokenise import encode, truncation_length, untruncated_lengths
from services.trainer.data.base_encoder import BaseEncoder
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation import Candidate

MAX_TASKS: Final = 20
"""Truncated texts that a report lists."""
_ANY: Final = sys.maxsize


@dataclass(frozen=True, slots=True)
class TextLengths:
    """Lengths of a data set's texts in tokens, the prompt's included."""

    read: Sequence[int]
    """(texts,) as the model reads them."""
    truncated: Mapping[int, int]
    """Row → whole length, of each text that the model does not read to its end."""
    limit: int


def lengths_of(encoder: BaseEncoder, texts: Sequence[str]) -> TextLengths:
    """Measure texts as the encoder reads them."""
    return measure_lengths(encoder.encoder.tokenizer, [f"{encoder.encoder.prompt}{text}" for text in texts])


def measure_lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> TextLengths:
    """Measure texts with a prepared tokenizer, which truncates."""
    limit = truncation_length(tokenizer)
    read = [len(ids) for ids in encode(tokenizer, texts)]
    full = [row for row, tokens in enumerate(read) if tokens >= limit]
    whole = zip(full, untruncated_lengths(tokenizer, [texts[row] for row in full]), strict=True)
    return TextLengths(read, {row: tokens for row, tokens in whole if tokens > limit}, limit)


def summarise_truncation(found: TextLengths, most: int) -> Truncation:
    """Count the truncated texts; `most`: tokens that the model can read, 0 for any number."""
    cut = found.truncated
    readable = [min(cut.get(row, tokens), most or _ANY) for row, tokens in enumerate(found.read)]
    return Truncation(
        texts=len(found.read),
        cut=len(cut),
        longest=max(cut.values(), default=max(found.read, default=0)),
        max_length=found.limit,
        most=most,
        cost=round(sum(readable) / max(1, sum(found.read)), 2),
    )


def list_cut_texts(dataset: Dataset, candidate: Candidate, found: TextLengths) -> CutTexts:
    """Return how many of the truncated texts are answered correctly out of sample, and the tasks of the longest."""
    rows = candidate.trained.out_of_sample.rows
    is_cut = np.isin(rows, np.fromiter(found.truncated, np.int64))
    right = candidate.right(dataset)
    longest = sorted(found.truncated, key=lambda row: (-found.truncated[row], row))[:MAX_TASKS]
    tasks = tuple(dataset.examples[row].task_id for row in longest)
    return CutTexts(int(is_cut.sum()), int((right & is_cut).sum()), tasks)
