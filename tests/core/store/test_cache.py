"""Copies: whole or not there, bounded, and never one that is just being loaded removed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

import pytest

from services.core.store.s3.cache import Cache


def filled(size: int, mark: str = "e1") -> object:
    def fill(file: IO[bytes]) -> str:
        file.write(b"x" * size)
        return mark

    return fill


def put(cache: Cache, key: str, size: int = 10, age: float = 0.0) -> Path:
    path = cache.store(key, filled(size))  # type: ignore[arg-type]
    for mark in (path.parents[len(Path(key).parts)] / "marks").rglob(Path(key).name):
        os.utime(mark, (time.time() - age, time.time() - age))
    return path


def test_least_recently_used_copies_are_pruned_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "s3://a", 0.0001)
    old, older = put(cache, "v/old", 60, 700), put(cache, "v/older", 30, 800)
    new = put(cache, "v/new", 30)
    assert [path.exists() for path in (older, old, new)] == [False, True, True]
    assert cache.mark("v/older") == ""


def test_recently_used_copies_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "s3://a", 0.0001)
    paths = [put(cache, f"v/{number}", 80, 500) for number in range(3)]
    assert all(path.exists() for path in paths)
    cache.touch("v/0")
    cache.prune(time.time() + 300)
    assert [path.exists() for path in paths] == [True, False, False]


def test_two_stores_share_a_folder_and_its_limit(tmp_path: Path) -> None:
    one, two = Cache(tmp_path, "s3://a", 0.0001), Cache(tmp_path, "s3://b", 0.0001)
    path = put(one, "k", 80, 700)
    assert put(two, "k", 80) != path
    assert not path.exists()


def test_a_copy_that_failed_leaves_the_one_before(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "s3://a", 1.0)
    path = put(cache, "k")

    def broken(file: IO[bytes]) -> str:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        cache.store("k", broken)
    assert path.read_bytes() == b"x" * 10
    assert cache.mark("k") == "e1"


def test_incomplete_copies_are_pruned(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "s3://a", 1.0)
    put(cache, "k")
    half = next(tmp_path.rglob("marks")) / ".partial-x"
    half.write_bytes(b"half")
    cache.prune(time.time())
    assert half.exists()
    cache.prune(time.time() + 700)
    assert not half.exists()
    assert cache.mark("k") == "e1"


@pytest.mark.parametrize("text", ["", "e1", "e1\n11", "e1\nx"])
def test_a_mark_of_another_size_is_ignored(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path, "s3://a", 1.0)
    put(cache, "k")
    (next(tmp_path.rglob("marks")) / "k").write_text(text)
    assert cache.mark("k") == ""
