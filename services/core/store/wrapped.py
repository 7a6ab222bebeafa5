"""The store that `open_store` gives: another one, whose requests are counted by outcome and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from services.core.errors import NotFound, StoreRefused, StoreUnreachable
from services.core.store import Entry, ObjectStore
from services.core.telemetry import metrics
from services.core.telemetry.metrics import StoreOperation, StoreOutcome

T = TypeVar("T")

_OUTCOMES: Final = (
    (NotFound, StoreOutcome.NOT_FOUND),
    (StoreUnreachable, StoreOutcome.UNREACHABLE),
    (StoreRefused, StoreOutcome.REFUSED),
)


class CountingStore:
    """An ObjectStore over another one, which raises as that does."""

    def __init__(self, store: ObjectStore) -> None:
        """Nothing is asked yet."""
        self.store = store

    @property
    def url(self) -> str:
        """The other store's."""
        return self.store.url

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return _counted(StoreOperation.READ, lambda: self.store.read(key))

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """The object's bytes and a mark of this state of it; None while it is as `mark` says. Raises NotFound."""
        return _counted(StoreOperation.READ, lambda: self.store.read_changed(key, mark))

    def local(self, key: str) -> Path:
        """A local path that ends in the key and holds the object's bytes. Raises NotFound."""
        return _counted(StoreOperation.READ, lambda: self.store.local(key))

    def forget(self, key: str) -> bool:
        """Drop what `local` keeps of the object; no request."""
        return self.store.forget(key)

    def write(self, key: str, data: bytes) -> None:
        """Put the object in one step."""
        _counted(StoreOperation.WRITE, lambda: self.store.write(key, data))

    def upload(self, source: Path, key: str) -> None:
        """Put a local file in one step."""
        _counted(StoreOperation.WRITE, lambda: self.store.upload(source, key))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, in the order of keys."""
        return _listed(lambda: self.store.entries(prefix))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that begins with `prefix`, in order."""
        return _listed(lambda: self.store.keys(prefix))

    def folders(self, prefix: str) -> list[str]:
        """The names right below `prefix` that hold objects, in order."""
        return _counted(StoreOperation.LIST, lambda: self.store.folders(prefix))

    def delete(self, key: str) -> None:
        """Remove the object."""
        _counted(StoreOperation.DELETE, lambda: self.store.delete(key))


def unwrap(store: ObjectStore) -> ObjectStore:
    """The store that a counting one stands before; any other as it is."""
    return store.store if isinstance(store, CountingStore) else store


def _counted(operation: StoreOperation, ask: Callable[[], T]) -> T:
    began, outcome = time.perf_counter(), StoreOutcome.OK
    try:
        return ask()
    except Exception as error:  # counted, and raised again
        outcome = _outcome(error)
        raise
    finally:
        metrics.observe_store_request(operation, outcome, time.perf_counter() - began)


def _listed(ask: Callable[[], Iterator[T]]) -> Iterator[T]:
    """One listing is one request, whose first page may be asked for at once, and others as somebody goes through it."""
    began = time.perf_counter()
    try:
        found = ask()
    except Exception as error:  # counted, and raised again
        metrics.observe_store_request(StoreOperation.LIST, _outcome(error), time.perf_counter() - began)
        raise
    return _gone_through(found, time.perf_counter() - began)


def _gone_through(found: Iterator[T], spent: float) -> Iterator[T]:
    """The time is the store's, and not that of whoever goes through it."""
    outcome, began = StoreOutcome.OK, time.perf_counter()
    try:
        for one in found:
            spent += time.perf_counter() - began
            yield one
            began = time.perf_counter()
        spent += time.perf_counter() - began
    except Exception as error:  # counted, and raised again
        outcome = _outcome(error)
        spent += time.perf_counter() - began
        raise
    finally:
        metrics.observe_store_request(StoreOperation.LIST, outcome, spent)


def _outcome(error: Exception) -> StoreOutcome:
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), StoreOutcome.FAILED)


class ReadsThrough:
    """Reads come from `store`; `write`, `upload` and `delete` are a subclass's. See ObjectStore."""

    def __init__(self, store: ObjectStore) -> None:
        """Nothing is read yet."""
        self.store = store

    @property
    def url(self) -> str:
        """The other store's."""
        return self.store.url

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return self.store.read(key)

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """The object's bytes and a mark of this state of it; None while it is as `mark` says. Raises NotFound."""
        return self.store.read_changed(key, mark)

    def local(self, key: str) -> Path:
        """A local path that ends in the key and holds the object's bytes. Raises NotFound."""
        return self.store.local(key)

    def forget(self, key: str) -> bool:
        """Drop what `local` keeps of the object."""
        return self.store.forget(key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, in the order of keys."""
        return self.store.entries(prefix)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that begins with `prefix`, in order."""
        return self.store.keys(prefix)

    def folders(self, prefix: str) -> list[str]:
        """The names right below `prefix` that hold objects, in order."""
        return self.store.folders(prefix)
