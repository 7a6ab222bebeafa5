"""core.logs: LOG_LEVEL changes what is written, and lines are JSON away from a terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

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
    log = structlog.get_logger("services.somewhere")
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


@pytest.mark.parametrize("module", ["services.trainer.loop", "__main__"])
def test_debug_is_for_our_own_lines_and_no_librarys(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(LOG_LEVEL="DEBUG"))
    for library in ("faker.factory", "urllib3.connectionpool", "asyncio", "anything"):
        logging.getLogger(library).debug("a flood")
    logging.getLogger("library").info("moved in")
    structlog.get_logger(module).debug("ours")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "moved in",
        "ours",
    ]


@pytest.mark.parametrize("module", ["services.core.inbox", "__main__"])
def test_our_own_modules_need_not_name_their_loggers(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As in all rooms: structlog takes the name of the module that logs."""
    configure(LoggingSettings(LOG_LEVEL="DEBUG"))
    rooms: dict[str, Any] = {"__name__": module, "log": structlog.get_logger()}
    exec("def speak(): log.debug('ours')", rooms)  # noqa: S102  # a module of that name
    rooms["speak"]()
    assert "ours" in capsys.readouterr().err


def test_a_console_gets_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(FITLOOP_LOG_FORMAT="console"))
    structlog.get_logger().info("launched", run="5-1")
    assert "launched" in capsys.readouterr().err
