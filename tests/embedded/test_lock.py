"""One process a data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.core.errors import BadConfig, Locked
from services.embedded.lock import data_lock

HOLDER = """
import sys
from pathlib import Path
from services.embedded.lock import data_lock
with data_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_holds_the_folder_until_that_one_dies(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Locked, match=rf"process {holder.pid}\) works on {folder}: .*--data"),
            data_lock(folder),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
    with data_lock(folder):
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_it_is_given_back_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with data_lock(tmp_path):
            pass


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(BadConfig, match="cannot be used: Not a directory"),
        data_lock(tmp_path / "file" / "data"),
    ):
        pass
