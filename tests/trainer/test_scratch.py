"""Where a process's temporary files are, and what becomes of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from services.core.errors import StoreError
from services.trainer.scratch import scratch


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_temporary_files_are_made_in_it_and_go_with_it(parent: Path) -> None:
    with scratch() as folder:
        made = Path(tempfile.mkdtemp())
        assert made.parent == folder
        assert folder.parent == parent
    assert not list(parent.iterdir())
    assert tempfile.gettempdir() == str(parent)


def test_a_dead_processs_folder_goes_and_a_living_ones_stays(parent: Path) -> None:
    dead = parent / "fitloop-trainer-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "model").touch()
    with scratch() as living:
        assert not dead.exists()
        tempfile.tempdir = str(parent)
        with scratch() as other:
            assert living.exists()
            assert other != living
        assert living.exists()


def test_what_is_not_ours_stays(parent: Path) -> None:
    others = parent / "fitloop-trainer-without-a-lock"
    others.mkdir()
    with scratch():
        pass
    assert list(parent.iterdir()) == [others]


def test_a_machine_without_room_for_temporary_files_says_so(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(parent / "none"))
    with pytest.raises(StoreError, match="No folder can be made in"), scratch():
        pass
