"""A counting store answers as the one behind it does, and counts every request once, by how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.core.errors import NotFound, StoreError, StoreRefused, StoreUnreachable
from services.core.store import ObjectStore
from services.core.store.files import FileStore
from services.core.store.wrapped import CountingStore, unwrap
from tests.support.metrics import metric_value


def counted(operation: str, outcome: str = "ok") -> float:
    return metric_value("fitloop_store_requests_total", operation=operation, outcome=outcome)


def timed(operation: str) -> float:
    return metric_value("fitloop_store_request_seconds_count", operation=operation)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FileStore(tmp_path))


ASKS: list[tuple[str, Callable[[ObjectStore], object]]] = [
    ("read", lambda store: store.read("a/b")),
    ("read", lambda store: store.read_changed("a/b")),
    ("read", lambda store: store.local("a/b")),
    ("write", lambda store: store.write("a/c", b"x")),
    ("list", lambda store: list(store.keys())),
    ("list", lambda store: list(store.entries("a/"))),
    ("list", lambda store: store.folders("a/")),
    ("delete", lambda store: store.delete("a/b")),
]


@pytest.mark.parametrize(("operation", "ask"), ASKS)
def test_every_request_is_counted_and_timed_once(
    store: CountingStore, operation: str, ask: Callable[[ObjectStore], object]
) -> None:
    store.write("a/b", b"x")
    before, seconds = counted(operation), timed(operation)
    ask(store)
    assert (counted(operation), timed(operation)) == (before + 1, seconds + 1)


def test_an_upload_is_a_write_and_forget_no_request(store: CountingStore, tmp_path: Path) -> None:
    before = counted("write")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store.upload(source, "a")
    assert counted("write") == before + 1
    assert store.forget("a") is False
    assert store.url == unwrap(store).url


class FailingStore(FileStore):
    """Fails reads at once, and listings on their second page."""

    error: StoreError

    def read(self, key: str) -> bytes:
        raise self.error

    def keys(self, prefix: str = "") -> Iterator[str]:
        yield "first"
        raise self.error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotFound("no"), "not_found"),
        (StoreUnreachable("away"), "unreachable"),
        (StoreRefused("key"), "refused"),
        (StoreError("broken"), "failed"),
    ],
)
def test_a_failed_request_is_counted_by_outcome(tmp_path: Path, error: StoreError, outcome: str) -> None:
    failing = FailingStore(tmp_path)
    failing.error = error
    store = CountingStore(failing)
    reads, lists = counted("read", outcome), counted("list", outcome)
    with pytest.raises(type(error)):
        store.read("a")
    with pytest.raises(type(error)):
        store.keys()
    assert (counted("read", outcome), counted("list", outcome)) == (reads + 1, lists + 1)


def test_a_listing_is_complete_and_counted_once(store: CountingStore) -> None:
    store.write("a", b"x")
    store.write("b", b"x")
    before = counted("list")
    keys = store.keys()
    assert counted("list") == before + 1
    assert list(keys) == ["a", "b"]
    assert counted("list") == before + 1
