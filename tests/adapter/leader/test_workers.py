"""Workers do one piece of work per key at a time, and deliver results in the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.adapter.leader.workers import Finished, ThreadWorkers, Workers
from tests.support.workers import InlineWorkers


@dataclass
class Harness:
    """Workers, and a way to wait for their results."""

    workers: Workers
    woken: threading.Event = field(default_factory=threading.Event)

    def deliver_when_ready(self) -> None:
        if isinstance(self.workers, ThreadWorkers):
            assert self.woken.wait(10)
        assert self.workers.deliver()


@pytest.fixture(params=["threads", "inline"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    made = Harness(InlineWorkers())
    if request.param == "threads":
        made.workers = ThreadWorkers(2, "test", made.woken.set)
    yield made
    made.workers.stop()


def _raise(error: Exception) -> Callable[[], Any]:
    def work() -> None:
        raise error

    return work


class TestContract:
    """Both implementations."""

    def test_result_is_delivered_in_the_callers_thread(self, harness: Harness) -> None:
        got: list[tuple[int, str]] = []

        assert harness.workers.submit(
            "a", lambda: 5, lambda found: got.append((found.result(), threading.current_thread().name))
        )
        harness.deliver_when_ready()

        assert got == [(5, threading.current_thread().name)]
        assert not harness.workers.deliver()

    def test_error_is_delivered(self, harness: Harness) -> None:
        got: list[Finished[None]] = []

        harness.workers.submit("a", _raise(ValueError("odd")), got.append)
        harness.deliver_when_ready()

        with pytest.raises(ValueError, match="odd"):
            got[0].result()

    def test_key_is_busy_until_its_result_is_delivered(self, harness: Harness) -> None:
        harness.workers.submit("a", lambda: 1, lambda _: None)

        assert harness.workers.is_busy("a")
        assert not harness.workers.submit("a", lambda: 2, lambda _: None)
        harness.deliver_when_ready()
        assert not harness.workers.is_busy("a")
        assert harness.workers.submit("a", lambda: 2, lambda _: None)


def test_stopped_workers_take_nothing_and_deliver_nothing() -> None:
    go, began = threading.Event(), threading.Event()
    workers = ThreadWorkers(1, "test", lambda: None)

    def work() -> None:
        began.set()
        assert go.wait(10)

    workers.submit("a", work, lambda _: None)
    assert began.wait(10)
    workers.submit("b", lambda: None, lambda _: pytest.fail("it was stopped"))
    workers.stop()
    go.set()

    assert not workers.submit("c", lambda: None, lambda _: None)
