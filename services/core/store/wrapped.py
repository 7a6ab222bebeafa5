"""Stores over another store: `WrappedStore` passes each call through one hook, `CountingStore` counts and times it."""

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
CHANGES: Final = frozenset({StoreOperation.WRITE, StoreOperation.DELETE})
_OUTCOMES: Final = (
    (NotFound, StoreOutcome.NOT_FOUND),
    (StoreUnreachable, StoreOutcome.UNREACHABLE),
    (StoreRefused, StoreOutcome.REFUSED),
)


class WrappedStore:
    """An ObjectStore over `store`. A subclass overrides `around`, which every request passes through."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:  # noqa: ARG002  # a hook
        """Make the request `call` of the kind `operation`; a listing is complete when it returns."""
        return call()

    @property
    def url(self) -> str:
        return self.store.url

    def read(self, key: str) -> bytes:
        return self.around(StoreOperation.READ, lambda: self.store.read(key))

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        return self.around(StoreOperation.READ, lambda: self.store.read_changed(key, mark))

    def local(self, key: str) -> Path:
        return self.around(StoreOperation.READ, lambda: self.store.local(key))

    def forget(self, key: str) -> bool:
        """Pass straight through: this concerns the local copy and makes no request."""
        return self.store.forget(key)

    def write(self, key: str, data: bytes) -> None:
        self.around(StoreOperation.WRITE, lambda: self.store.write(key, data))

    def upload(self, source: Path, key: str) -> None:
        self.around(StoreOperation.WRITE, lambda: self.store.upload(source, key))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        return iter(self.around(StoreOperation.LIST, lambda: list(self.store.entries(prefix))))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(self.around(StoreOperation.LIST, lambda: list(self.store.keys(prefix))))

    def folders(self, prefix: str) -> list[str]:
        return self.around(StoreOperation.LIST, lambda: self.store.folders(prefix))

    def delete(self, key: str) -> None:
        self.around(StoreOperation.DELETE, lambda: self.store.delete(key))


class CountingStore(WrappedStore):
    """Count and time the requests to `store`, by outcome. `open_store` returns one."""

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:
        began, outcome = time.perf_counter(), StoreOutcome.OK
        try:
            return call()
        except Exception as error:
            outcome = next(
                (outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), StoreOutcome.FAILED
            )
            raise
        finally:
            metrics.observe_store_request(operation, outcome, time.perf_counter() - began)


def unwrap(store: ObjectStore) -> ObjectStore:
    """Return the store below a CountingStore; any other as it is."""
    return store.store if isinstance(store, CountingStore) else store
