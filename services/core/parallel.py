"""Many small requests at a time: each waits for a store or another service, so threads are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")
_THREADS: Final = 8
_FEW: Final = 3
"""Calls that are made one after the other, without a thread."""


def in_parallel(work: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Return what `work` returns for each item, in their order. Raises the error of the first that failed; others may be done then."""
    given = list(items)
    if len(given) <= _FEW:
        return [work(item) for item in given]
    with ThreadPoolExecutor(_THREADS, "parallel") as executor:
        return list(executor.map(work, given))
