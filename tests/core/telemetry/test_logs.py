"""core.logs: LOG_LEVEL changes what is written, and lines are JSON away from a terminal."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
from typing import Any, Literal

import pytest
import structlog

from services.core.settings import LoggingSettings
from services.core.telemetry.logs import configure, log_uncaught, safe_traceback, use_root_handler


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 3), ("INFO", 2), ("ERROR", 0)])
def test_the_level_decides_what_is_written(
    level: str, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings(level=level))
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


@pytest.mark.parametrize("module", ["services.trainer.methods.loop", "__main__"])
def test_debug_is_for_our_own_lines_and_no_librarys(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(level="DEBUG"))
    for library in ("faker.factory", "urllib3.connectionpool", "asyncio", "anything"):
        logging.getLogger(library).debug("a flood")
    logging.getLogger("library").info("moved in")
    structlog.get_logger(module).debug("ours")
    logging.getLogger("library").warning("careful")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "ours",
        "careful",
    ]


@pytest.mark.parametrize("module", ["services.core.inbox", "__main__"])
def test_our_own_modules_need_not_name_their_loggers(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As in all rooms: structlog takes the name of the module that logs."""
    configure(LoggingSettings(level="DEBUG"))
    rooms: dict[str, Any] = {"__name__": module, "log": structlog.get_logger()}
    exec("def speak(): log.debug('ours')", rooms)  # noqa: S102  # a module of that name
    rooms["speak"]()
    assert "ours" in capsys.readouterr().err


def test_conflicting_variables_are_logged_at_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_HOST", "http://one")
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://two")
    configure(LoggingSettings())
    (line,) = _lines(capsys)
    assert line["event"] == "setting_given_twice"
    assert line["reason"].startswith("LABEL_STUDIO_HOST and LABEL_STUDIO_URL are both set")


def test_a_console_gets_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(format="console"))
    structlog.get_logger().info("launched", run="5-1")
    assert "launched" in capsys.readouterr().err


_SECRET = "a text that a customer wrote"


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def _raise() -> None:
    raise ValueError(_SECRET)


def test_a_librarys_own_level_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    """Some set their loggers to DEBUG themselves."""
    configure(LoggingSettings(level="DEBUG"))
    library = logging.getLogger("library.noisy")
    library.setLevel("DEBUG")
    library.debug(_SECRET)
    library.info(_SECRET)
    assert _lines(capsys) == []


def test_an_exception_is_logged_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings())
    try:
        _raise()
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
        structlog.get_logger("services.somewhere").exception("failed")
    library, ours = _lines(capsys)
    assert _SECRET not in f"{library}{ours}"
    for line in (library, ours):
        assert line["kind"] == "ValueError"
        assert "_raise" in line["frames"][-1]
    assert library["event"] == "Exception in ASGI application"


def test_only_the_first_line_of_asyncio_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings())

    async def main() -> None:
        async def fail() -> None:
            _raise()

        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    asyncio.run(main())
    (line,) = _lines(capsys)
    assert line["event"] == "Task exception was never retrieved"
    assert _SECRET not in str(line)


def test_secrets_of_the_settings_are_masked_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(), hidden=["a-long-password", "short", "abc", ""])
    log = structlog.get_logger("services.somewhere")
    log.error(
        "said",
        reason="https://user:pass@host/a-long-password is away, in short: shortly, abc",
        sent=["YS1sb25nLXBhc3N3b3Jk", {"a-long-password": 1}],
        run=12345678,
    )
    (line,) = _lines(capsys)
    assert line["reason"] == "https://[hidden]@host/[hidden] is away, in [hidden]: shortly, abc"
    assert line["sent"] == ["[hidden]", {"[hidden]": 1}]


@pytest.mark.parametrize("secret", ["12345678", "1234", "info", "2026"])
def test_a_numeric_secret_keeps_lines_valid(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings(), hidden=[secret])
    structlog.get_logger("services.somewhere").info("said", project=int(secret) if secret.isdigit() else 1)
    (line,) = _lines(capsys)
    assert line["level"] == "info"
    assert line["timestamp"].startswith("20")
    assert line["project"] == (int(secret) if secret.isdigit() else 1)


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_secret_is_masked_however_it_is_written(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "pass\"wörd\\'s"
    configure(LoggingSettings(format=shape), hidden=[secret])
    structlog.get_logger("services.somewhere").error("said", reason=f"{secret} again", given=[secret])
    logging.getLogger("library").warning(secret)
    output = capsys.readouterr().err
    assert output.count("[hidden]") == 3
    assert "wörd" not in output
    assert "rd" not in output.replace("[hidden]", "")


def test_process_ids_are_on_the_lines_of_all_threads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingSettings(), always={"run": "5-1", "project": 5})
    log = structlog.get_logger("services.trainer.somewhere")
    thread = threading.Thread(target=log.info, args=("kept",))
    thread.start()
    thread.join()
    (line,) = _lines(capsys)
    assert (line["run"], line["project"]) == ("5-1", 5)


def test_a_librarys_own_handlers_are_removed(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings())
    library = logging.getLogger("library.with.handlers")
    library.addHandler(logging.StreamHandler(sys.stderr))
    library.propagate = False
    use_root_handler("library.with.handlers")
    library.warning("careful")
    assert [line["event"] for line in _lines(capsys)] == ["careful"]


def test_uncaught_errors_are_logged_like_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    configure(LoggingSettings())
    log_uncaught()
    thread = threading.Thread(target=_raise)
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError(_SECRET), None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    threading.excepthook(threading.ExceptHookArgs((UnicodeDecodeError, None, None, None)))
    lines = _lines(capsys)
    assert [line["event"] for line in lines] == ["uncaught_error"] * 3
    assert (lines[2]["kind"], lines[2]["frames"]) == ("UnicodeDecodeError", [])
    assert "_raise" in lines[0]["frames"][-1]
    assert _SECRET not in str(lines)


def test_a_closed_stderr_prints_no_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own handler would print the error in whose `except` a line was to be written."""
    with monkeypatch.context() as patched:
        closed = io.StringIO()
        patched.setattr(sys, "stderr", closed)
        configure(LoggingSettings())
    closed.close()
    try:
        _raise()
    except ValueError:
        structlog.get_logger("services.somewhere").error("failed")
    assert capsys.readouterr().err == ""


_SECRET_TEXT = "text of a customer"


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
    assert "test_logs.py" in written
    assert _SECRET_TEXT not in written


def test_messages_of_numeric_libraries_are_kept() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.nn.Linear(5, 4)(torch.zeros(2, 3))
    first, *_, last = safe_traceback(raised.value)
    assert first.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 5x4)")
    assert last.endswith("in forward: return F.linear(input, self.weight, self.bias)")
