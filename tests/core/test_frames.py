"""core.frames: where a crash happened is logged in every format, and what its message says in none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from services.core.frames import frames_of
from services.core.logs import configure
from services.core.settings import LoggingSettings

_SECRET = "text of a customer"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_crash_is_logged_by_its_kind_and_place_alone(
    shape: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings(FITLOOP_LOG_FORMAT=shape))
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError(_SECRET)
    structlog.get_logger("services.trainer").error("the run crashed", frames=frames_of(raised.value))
    written = capsys.readouterr().err
    assert "RuntimeError" in written
    assert "test_frames.py" in written
    assert _SECRET not in written
