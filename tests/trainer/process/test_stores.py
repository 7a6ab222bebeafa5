"""The retrying store and the read-only one."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import Preempted, StoreRefused, StoreUnreachable
from services.core.store.files import FileStore
from services.trainer.process import ReadOnlyStore, RetryingStore
from services.trainer.process.lifecycle import RunTimeExceeded, Stop
from tests.contract.test_store import StoreContract


class FakeFlakyStore(FileStore):
    """Fails a number of times."""

    def __init__(self, root: Path, times: int, error: type[Exception] = StoreUnreachable) -> None:
        super().__init__(root)
        self.times, self.error = times, error

    def read(self, key: str) -> bytes:
        if self.times:
            self.times -= 1
            raise self.error("away")
        return super().read(key)

    def write(self, key: str, data: bytes) -> None:
        if self.times:
            self.times -= 1
            raise self.error("away")
        super().write(key, data)


def build_retrying_store(store: FileStore, stop: Stop | None = None, seconds: float = 600.0) -> RetryingStore:
    return RetryingStore(store, stop or Stop(), seconds, pause=0.001)


class TestRetryingStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.store = build_retrying_store(FileStore(tmp_path))


def test_retries_transient_errors(tmp_path: Path) -> None:
    FileStore(tmp_path).write("a", b"one")
    assert build_retrying_store(FakeFlakyStore(tmp_path, 3)).read("a") == b"one"


def test_writes_may_pass_without_retries(tmp_path: Path) -> None:
    flaky = FakeFlakyStore(tmp_path, 3)
    store = RetryingStore(flaky, Stop(), pause=0.001, changes=False)
    with pytest.raises(StoreUnreachable):
        store.write("a", b"one")
    assert flaky.times == 2
    FileStore(tmp_path).write("a", b"one")
    assert store.read("a") == b"one"


def test_raises_permanent_errors_at_once(tmp_path: Path) -> None:
    store = FakeFlakyStore(tmp_path, 3, StoreRefused)
    with pytest.raises(StoreRefused):
        build_retrying_store(store).read("a")
    assert store.times == 2


def test_retries_end(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable):
        build_retrying_store(FakeFlakyStore(tmp_path, 1_000_000), seconds=0.01).read("a")


def test_no_retries_once_stop_is_requested(tmp_path: Path) -> None:
    store = FakeFlakyStore(tmp_path, 1_000_000)
    with pytest.raises(StoreUnreachable):
        build_retrying_store(store, Stop(requested=True)).read("a")
    assert store.times == 999_999


def test_run_time_ends_retries(tmp_path: Path) -> None:
    stop = Stop()
    stop.limit_to(0.05)
    with pytest.raises(RunTimeExceeded, match=r"FITLOOP_RUN_SECONDS"):
        build_retrying_store(FakeFlakyStore(tmp_path, 1_000_000), stop).read("a")


def test_stop_ends_a_wait() -> None:
    with pytest.raises(Preempted):
        Stop(requested=True).wait(60)


def test_read_only_store_drops_writes(tmp_path: Path) -> None:
    store, source = FileStore(tmp_path / "store"), tmp_path / "source"
    store.write("a/b", b"one")
    source.write_bytes(b"two")
    view = ReadOnlyStore(store)
    view.write("a/b", b"two")
    view.upload(source, "a/c")
    view.delete("a/b")
    assert (view.read("a/b"), list(view.keys("a/")), view.folders("")) == (b"one", ["a/b"], ["a"])
    assert view.local("a/b").read_bytes() == b"one"
    assert [entry.key for entry in view.entries()] == ["a/b"]
    assert view.read_changed("a/b", "") is not None
    assert (view.forget("a/b"), view.url) == (False, store.url)
