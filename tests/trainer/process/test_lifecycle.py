"""SIGTERM is a wish that is read between steps, and at once where nothing is written; time may run out."""

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


def test_the_signal_is_remembered_until_it_is_asked_for(stop: Stop) -> None:
    stop.check()
    os.kill(os.getpid(), signal.SIGTERM)
    eventually(lambda: stop.requested)
    with pytest.raises(Preempted):
        stop.check()


def test_where_nothing_is_written_the_signal_ends_the_work_where_it_stands(stop: Stop) -> None:
    began = time.monotonic()

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(30)

    with pytest.raises(Preempted), stop.interruptible():
        work()
    assert time.monotonic() - began < 10


def test_what_a_library_makes_of_it_is_still_the_wish_to_end(stop: Stop) -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            eventually(lambda: stop.requested)
        except Preempted as error:
            raise ValueError("request failed") from error

    with pytest.raises(Preempted), stop.interruptible():
        work()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="x"), Stop().interruptible():
        raise ValueError("x")


def test_work_that_may_be_left_out_and_the_whole_run_have_times_of_their_own() -> None:
    stop = Stop()
    stop.limit_to(0)
    assert stop.reason() is None
    stop.deadline = 0.0
    assert isinstance(stop.reason(), DeadlinePassed)
    stop.limit_to(1e-9)
    assert isinstance(stop.reason(), RunTimeExceeded), "which counts more"
    stop.requested = True
    assert isinstance(stop.reason(), Preempted), "and this most"


def test_it_gives_what_was_loaded_or_raised() -> None:
    assert BackgroundCall(lambda: 3).result(Stop()) == 3

    def fail() -> None:
        raise BadConfig("no such model")

    with pytest.raises(BadConfig, match="no such model"):
        BackgroundCall(fail).result(Stop())


def test_a_process_that_was_asked_to_end_does_not_wait() -> None:
    go_on = threading.Event()
    loading = BackgroundCall(go_on.wait)
    with pytest.raises(Preempted):
        loading.result(Stop(requested=True))
    go_on.set()


@pytest.mark.parametrize("loads", [True, False])
def test_a_process_leaves_with_its_code_whatever_is_still_loaded(loads: bool) -> None:
    begin = "BackgroundCall(threading.Event().wait)" if loads else ""
    program = f"import threading\nfrom services.trainer.process.lifecycle import BackgroundCall, exit_process\n{begin}\nexit_process(75)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 75
