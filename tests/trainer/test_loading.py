"""Something slow is loaded beside other work; a process that ends does not wait for it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from services.core.errors import BadConfig, Preempted
from services.trainer.loading import BackgroundCall
from services.trainer.preemption import Stop
from tests.support.trainer_process import ROOT


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
    begin = "Loading(threading.Event().wait)" if loads else ""
    program = f"import threading\nfrom services.trainer.loading import Loading, leave\n{begin}\nleave(75)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 75
