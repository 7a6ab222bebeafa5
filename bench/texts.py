"""The texts: banking77 (77 intents) and nlupp, from the folder that FITLOOP_DATA names. See the folder's README."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench.result import Skip

Labelled = list[tuple[str, str]]
"""(text, label)"""


def banking77(data: Path, part: str) -> Labelled:
    """Return all of `train` (10,003) or `test` (3,080). Raise Skip."""
    with _existing(data / "banking77" / f"banking77_{part}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def intents(data: Path) -> list[str]:
    """Return the 77 labels. Raise Skip."""
    found: list[str] = json.loads(_existing(data / "banking77" / "categories.json").read_text("utf-8"))
    return found


def nlupp(data: Path) -> list[str]:
    """Return texts without labels. Raise Skip."""
    lines = _existing(data / "nlupp" / "banking.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def mixed(data: Path, count: int, seed: int = 0) -> list[str]:
    """Return short texts that no model here was trained on: half banking77's test set, half nlupp. Raise Skip."""
    chance = random.Random(seed)
    test = [text for text, _ in banking77(data, "test")]
    found = chance.sample(test, count // 2) + chance.sample(nlupp(data), count - count // 2)
    chance.shuffle(found)
    return found


def some(pool: Sequence[tuple[str, str]], count: int, seed: int) -> Labelled:
    """Return a random sample of this size."""
    return random.Random(seed).sample(list(pool), count)


def of_each_label(pool: Sequence[tuple[str, str]], count: int, seed: int) -> Labelled:
    """Return a random sample of this size per label, or all if there are fewer."""
    chance, by_label = random.Random(seed), defaultdict(list)
    for text, label in pool:
        by_label[label].append((text, label))
    found = [
        row
        for label in sorted(by_label)
        for row in chance.sample(by_label[label], min(count, len(by_label[label])))
    ]
    chance.shuffle(found)
    return found


def _existing(path: Path) -> Path:
    if not path.exists():
        raise Skip(
            f"{path.parent.name}/{path.name} is missing: set FITLOOP_DATA to the folder that holds it (bench/README.md)."
        )
    return path
