"""core.logs: LOG_LEVEL changes what is written, and lines are JSON away from a terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from services.core.logs import configure
from services.core.settings import LoggingSettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 3), ("INFO", 2), ("ERROR", 0)])
def test_the_level_decides_what_is_written(
    level: str, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings(LOG_LEVEL=level))
    log = structlog.get_logger()
    log.debug("counted")
    log.info("launched", run="5-1")
    logging.getLogger("library").warning("careful")
    written = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(written) == lines
    if level == "INFO":
        assert written[0] | {"timestamp": ""} == {
            "event": "launched",
            "run": "5-1",
            "level": "info",
            "timestamp": "",
        }


def test_a_console_gets_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(FITLOOP_LOG_FORMAT="console"))
    structlog.get_logger().info("launched", run="5-1")
    assert "launched" in capsys.readouterr().err
