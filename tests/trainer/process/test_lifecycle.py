"""Signals, deadlines and exits of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from services.core.errors import BadConfig, Preempted
from services.trainer.process.lifecycle import BackgroundCall, DeadlinePassed, RunTimeExceeded, Stop
from tests.support.trainer_process import ROOT
from tests.support.waiting import eventually


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    found = Stop()
    found.install_handlers()
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signal_is_kept_until_checked(stop: Stop) -> None:
    stop.check()
    os.kill(os.getpid(), signal.SIGTERM)
    eventually(lambda: stop.requested)
    with pytest.raises(Preempted):
        stop.check()


def test_signal_ends_interruptible_work_at_once(stop: Stop) -> None:
    began = time.monotonic()

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(30)

    with pytest.raises(Preempted), stop.interruptible():
        work()
    assert time.monotonic() - began < 10


def test_a_librarys_error_after_a_signal_is_preemption(stop: Stop) -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            eventually(lambda: stop.requested)
        except Preempted as error:
            raise ValueError("request failed") from error

    with pytest.raises(Preempted), stop.interruptible():
        work()


def test_interruptible_keeps_other_errors() -> None:
    with pytest.raises(ValueError, match="x"), Stop().interruptible():
        raise ValueError("x")


def test_deadline_and_run_time_differ() -> None:
    stop = Stop()
    stop.limit_to(0)
    assert stop.reason() is None
    stop.deadline = 0.0
    assert isinstance(stop.reason(), DeadlinePassed)
    stop.limit_to(1e-9)
    assert isinstance(stop.reason(), RunTimeExceeded), "which counts more"
    stop.requested = True
    assert isinstance(stop.reason(), Preempted), "and this most"


def test_background_call_returns_or_raises() -> None:
    assert BackgroundCall(lambda: 3).result(Stop()) == 3

    def fail() -> None:
        raise BadConfig("no such model")

    with pytest.raises(BadConfig, match="no such model"):
        BackgroundCall(fail).result(Stop())


def test_signal_ends_the_wait_for_a_background_call() -> None:
    go_on = threading.Event()
    loading = BackgroundCall(go_on.wait)
    with pytest.raises(Preempted):
        loading.result(Stop(requested=True))
    go_on.set()


@pytest.mark.parametrize("loads", [True, False])
def test_exit_process_does_not_wait_for_calls(loads: bool) -> None:
    begin = "BackgroundCall(threading.Event().wait)" if loads else ""
    program = f"import threading\nfrom services.trainer.process.lifecycle import BackgroundCall, exit_process\n{begin}\nexit_process(75)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 75
