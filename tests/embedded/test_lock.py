"""One process a data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.core.errors import BadConfig, Locked
from services.embedded.in_process import FileLeadership

HOLDER = """
import sys
from pathlib import Path
from services.embedded.in_process import FileLeadership
FileLeadership(Path(sys.argv[1])).start(lambda: None)
print("held", flush=True)
sys.stdin.read()
"""


def test_second_process_learns_the_lock_holder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        ours = FileLeadership(folder)
        with pytest.raises(Locked, match=rf"process {holder.pid}\) is using {folder}: .*--data"):
            ours.start(lambda: None)
        assert not ours.leads()
        holder.send_signal(signal.SIGKILL)
    ours.start(lambda: None)
    assert (folder / "lock").read_text() == f"{os.getpid()}\n"
    ours.stop()


def test_lock_holder_leads_until_stop(tmp_path: Path) -> None:
    told: list[bool] = []
    leadership = FileLeadership(tmp_path)
    for _ in range(2):
        leadership.start(lambda: told.append(leadership.leads(3600)))
        leadership.start(lambda: None)  # a second time changes nothing
        leadership.stop()
        leadership.stop()
        assert not leadership.leads()
    assert told == [True, True]


def test_unusable_folder_is_bad_config(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match="cannot be used: Not a directory"):
        FileLeadership(tmp_path / "file" / "data").start(lambda: None)
