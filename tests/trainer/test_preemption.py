"""SIGTERM is a wish that is read between steps."""

from __future__ import annotations

import os
import signal

import pytest

from services.core.errors import Preempted
from services.trainer.preemption import Stop
from tests.waiting import eventually


def test_the_signal_is_remembered_until_it_is_asked_for() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = Stop()
        stop.listen()
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: stop.asked)
        with pytest.raises(Preempted):
            stop.check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
