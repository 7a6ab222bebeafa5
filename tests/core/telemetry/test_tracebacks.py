"""core.frames: where a crash happened is logged in every format, and what its message says in none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from services.core.settings import LoggingSettings
from services.core.telemetry.logs import configure, safe_traceback

_SECRET_TEXT = "text of a customer"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_crash_is_logged_without_its_message(
    shape: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings(format=shape))
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError(_SECRET_TEXT)
    structlog.get_logger("services.trainer").error("the run crashed", frames=safe_traceback(raised.value))
    written = capsys.readouterr().err
    assert "RuntimeError" in written
    assert "test_tracebacks.py" in written
    assert _SECRET_TEXT not in written


def test_messages_of_numeric_libraries_are_kept() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.nn.Linear(5, 4)(torch.zeros(2, 3))
    first, *_, last = safe_traceback(raised.value)
    assert first.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 5x4)")
    assert last.endswith("in forward: return F.linear(input, self.weight, self.bias)")
