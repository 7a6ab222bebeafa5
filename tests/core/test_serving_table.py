"""core.serving_table: the newest table wins, whatever a late or broken write left, and costs few requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.core.domain import Served, Serving
from services.core.errors import StoreError, UnknownFormat
from services.core.serving_table import ServingTableFile
from tests.support.store import MemoryStore

TABLE = Serving(term=2, generation=7, projects={"5-1": Served(current="v-2")})


class CountingStore(MemoryStore):
    """Counts requests by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []

    def read(self, key: str) -> bytes:
        self.requests.append("read")
        return super().read(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        self.requests.append("list")
        return super().keys(prefix)

    def write(self, key: str, data: bytes) -> None:
        self.requests.append("write")
        super().write(key, data)

    def delete(self, key: str) -> None:
        self.requests.append("delete")
        super().delete(key)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def file(store: CountingStore) -> ServingTableFile:
    return ServingTableFile(store)


def reopened(file: ServingTableFile) -> ServingTableFile:
    """Return the file as the next leader opens it."""
    return ServingTableFile(file.store)


def test_greatest_table_wins_over_a_late_write(file: ServingTableFile) -> None:
    assert file.newest() == Serving()
    file.write(replace(TABLE, generation=6))
    file.write(TABLE)
    reopened(file).write(Serving(term=1, generation=9, projects={"5-1": Served(current="v-1")}))
    assert reopened(file).newest() == TABLE


def test_current_table_includes_late_writes(file: ServingTableFile) -> None:
    assert file.current() is None
    file.write(TABLE)
    assert file.current() == TABLE
    late = Serving(term=1, generation=9)
    reopened(file).write(late)
    assert file.current() == late
    file.store.write("serving.json", b"{")
    assert file.current() is None
    file.write(TABLE)
    assert file.current() == TABLE


def test_unchanged_table_is_not_parsed_again(file: ServingTableFile) -> None:
    file.write(TABLE)
    assert file.current() is file.current()


def test_last_term_counts_unreadable_tables(file: ServingTableFile) -> None:
    assert file.last_term(file.newest()) == 0
    file.write(TABLE)
    assert file.last_term(file.newest()) == 2
    file.store.write("serving/00000004-00000008.json", b"{")
    assert reopened(file).last_term(file.newest()) == 4


def test_old_generations_are_deleted(file: ServingTableFile) -> None:
    for generation in range(105):
        file.write(Serving(term=1, generation=generation))
    assert len(list(file.store.keys("serving/"))) == 100
    assert reopened(file).newest().generation == 104


def test_takeover_lists_once_and_a_write_never(store: CountingStore) -> None:
    for generation in range(120):
        ServingTableFile(store).write(Serving(term=1, generation=generation))
    file = ServingTableFile(store)
    store.requests.clear()
    file.last_term(file.newest())
    assert sorted(store.requests) == ["list", "read", "read", "read", "read"]
    store.requests.clear()
    file.write(TABLE)
    assert store.requests == ["write", "write", "delete"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2])
def test_generations_are_listed_again_after_a_failure(
    store: CountingStore, write: int, *, after: bool
) -> None:
    file = ServingTableFile(store)
    file.write(replace(TABLE, generation=6))
    store.error, store.fail_at, store.after = StoreError("No answer."), store.changes + write, after
    with pytest.raises(StoreError):
        file.write(TABLE)
    store.fail_at = None
    store.write("serving/00000009-00000001.json", b"{")
    assert file.newest() == (TABLE if after or write == 2 else replace(TABLE, generation=6))
    assert file.last_term(file.newest()) == 9


def test_failed_deletion_does_not_undo_the_write(store: CountingStore) -> None:
    for generation in range(100):
        ServingTableFile(store).write(Serving(term=1, generation=generation))
    store.error, store.fail_at = StoreError("No answer."), store.changes + 3
    file = ServingTableFile(store)
    file.write(TABLE)
    store.fail_at = None
    assert file.current() == TABLE


def test_a_newer_releases_table_is_refused(file: ServingTableFile) -> None:
    file.store.write("serving.json", b'{"format": 99}')
    with pytest.raises(UnknownFormat, match="upgrade Fitloop"):
        file.newest()
    with pytest.raises(UnknownFormat):
        file.current()


def test_a_newer_table_is_refused_beside_a_readable_one(file: ServingTableFile) -> None:
    file.write(Serving(term=1, generation=2))
    file.store.write("serving.json", b'{"format": 99}')
    with pytest.raises(UnknownFormat):
        file.newest()


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"term": "x"}', b"\xff"])
def test_a_broken_table_is_replaced_by_a_generation(file: ServingTableFile, junk: bytes) -> None:
    file.write(replace(TABLE, generation=1))
    file.write(TABLE)
    file.store.write("serving.json", junk)
    assert file.newest() == TABLE


def test_unreadable_tables_are_an_error_not_empty(file: ServingTableFile) -> None:
    file.store.write("serving.json", b"{")
    with pytest.raises(StoreError, match=r"no readable serving table \(serving\.json\)"):
        file.newest()
