"""The texts of the workloads: short ones, long ones made of them, and variants that no server has seen before."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from tokenizers import Tokenizer

from bench import texts
from bench.peers import content
from bench.result import Options
from bench.rig import base

TEXTS, LONG_TEXTS, LONG_TOKENS = 1_000, 120, 115
_VARIANTS = 10
"""Of the short texts, for one measurement of single requests."""


@dataclass(frozen=True, slots=True)
class Requests:
    """The texts of each workload, and their mean tokens."""

    short: list[str]
    long: list[str]
    short_tokens: float
    long_tokens: float


def build_requests(options: Options) -> Requests:
    """Return 1,000 short texts, and longer ones of half to one and a half times LONG_TOKENS."""
    tokenizer = Tokenizer.from_file(str(base() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    short, long = texts.mixed(options.data, TEXTS), []
    parts = cycle(texts.mixed(options.data, 2 * TEXTS, seed=1))
    for number in range(LONG_TEXTS):
        wanted, text = LONG_TOKENS * (0.5 + number / LONG_TEXTS), ""
        while _counts(tokenizer, [text])[0] < wanted:
            text = f"{text} {next(parts)}".strip()
        long.append(text)
    tokens = [statistics.mean(_counts(tokenizer, rows)) for rows in (short, long)]
    return Requests(short, long, *tokens)


def vary(rows: Sequence[str], seed: int) -> list[str]:
    """Return texts of the same words in another order, which no server has seen; seed 0: the texts themselves."""
    chance, found = random.Random(seed), [row.split() for row in rows]
    for words in found if seed else ():
        chance.shuffle(words)
    return [" ".join(words) for words in found]


def fresh(requests: Requests, seed: int) -> list[str]:
    """Return enough texts that none is sent twice in one measurement."""
    return [row for number in range(_VARIANTS) for row in vary(requests.short, _VARIANTS * seed + number)]


def _counts(tokenizer: Tokenizer, rows: Sequence[str]) -> list[int]:
    return [min(content.MAX_LENGTH, len(one.ids)) for one in tokenizer.encode_batch(list(rows))]
