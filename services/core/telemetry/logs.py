"""Configuration of structlog for every process: colours on a terminal, JSON lines elsewhere, always to stderr.

Our lines bind ids (request, project, run, version) and never a text, a token or a password. Lines of libraries may contain
any of them: below WARNING they are dropped, of others the first line is kept, and of an exception its class and frames,
because its message repeats its input. At last, the secrets of the settings are masked in every line.
"""

from __future__ import annotations

import linecache
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

from services.core.redaction import mask
from services.core.settings import LoggingSettings, conflicting_variables

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

_MAX_CHARACTERS = 240

_TEXT_FREE_LIBRARIES = ("/torch/", "/transformers/models/", "/transformers/modeling_")
"""Paths of libraries that process ids and weights, and no text."""


def safe_traceback(error: BaseException) -> list[str]:
    """The error's type and its frames, outermost first, the last with its statement; then the same of what caused it."""
    found: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = traceback.extract_tb(cause.__traceback__)
        found.append(type(cause).__name__ + _message(cause, frames))
        found += [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        if frames:
            found[-1] += _statement(frames[-1])
        cause = cause.__cause__ or cause.__context__
    return found


def _statement(frame: traceback.FrameSummary) -> str:
    first = frame.lineno or 0
    last = frame.end_lineno or first
    lines = [linecache.getline(frame.filename, number).strip() for number in range(first, last + 1)]
    source = " ".join(filter(None, lines))[:_MAX_CHARACTERS]
    return f": {source}" if source else ""


def _message(error: BaseException, frames: traceback.StackSummary) -> str:
    if not frames or not any(part in frames[-1].filename for part in _TEXT_FREE_LIBRARIES):
        return ""
    return ": " + " ".join(str(error).split())[:_MAX_CHARACTERS]


def unexpected_error_message(error: BaseException) -> str:
    """For people."""
    return f"Fitloop failed unexpectedly ({type(error).__name__}): its log says where. It tries again."


_OWN_LOGGERS: Final = ("services", "__main__")
"""Loggers that LOG_LEVEL=DEBUG applies to; libraries stay at INFO."""

_MAX_LINE: Final = 300
"""Characters kept of a library's line."""

_UNMASKED: Final = frozenset({"timestamp", "level"})
"""Fields that never contain a secret."""

_NO_IDS: Final[Mapping[str, object]] = {}


def configure(
    settings: LoggingSettings, *, hidden: Iterable[str] = (), always: Mapping[str, object] = _NO_IDS
) -> None:
    """Set the level and the format of all log lines.

    `hidden`: what no line may contain (`Settings.secrets`). `always`: ids of the whole process, added in any
    thread.
    """
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        lambda _, __, event: {**always, **event},
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer: Callable[..., Any] = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    handler = _Handler(sys.stderr)
    handler.addFilter(_is_logged)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _first_line],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _safe_exception,
                _mask_secrets(hidden),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.level]
    root.setLevel(max(level, logging.INFO))
    for ours in _OWN_LOGGERS:
        logging.getLogger(ours).setLevel(level)
    for conflict in conflicting_variables():
        structlog.get_logger("services.core.telemetry.logs").warning("setting_given_twice", reason=conflict)


def use_root_handler(*names: str) -> None:
    """Remove a library's own handlers, so that its lines look like all others."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def log_uncaught() -> None:
    """Log errors that end a thread or the process like all others: Python itself would print their messages."""
    log = structlog.get_logger("services.core.telemetry.logs")

    def ended(kind: type[BaseException], error: BaseException | None, *_: object) -> None:
        if not issubclass(kind, KeyboardInterrupt | SystemExit):
            frames = safe_traceback(error) if error else []
            log.critical("uncaught_error", kind=kind.__name__, frames=frames)

    def thread_ended(given: threading.ExceptHookArgs) -> None:
        ended(given.exc_type, given.exc_value)

    def unraisable(given: Any) -> None:
        ended(given.exc_type, given.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = ended, thread_ended, unraisable


class _Handler(logging.StreamHandler[TextIO]):
    """Write to stderr; if that fails, there is no place left to report it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the base class's name
        """Do nothing: the base class would print the error that is being logged, message included."""


def _is_logged(record: logging.LogRecord) -> bool:
    """Return whether a line is logged: all of ours, and of libraries those from WARNING up."""
    return isinstance(record.msg, dict) or record.levelno >= logging.WARNING


def _first_line(_: object, __: str, event: EventDict) -> EventDict:
    """Keep the first line: asyncio, for one, prints a task's arguments in the second."""
    event["event"] = str(event.get("event", "")).partition("\n")[0][:_MAX_LINE]
    return event


def _safe_exception(_: object, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its class and frames."""
    event.pop("stack_info", None)
    given = event.pop("exc_info", None)
    found = sys.exc_info() if given is True else given
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["kind"], event["frames"] = type(error).__name__, safe_traceback(error)
    return event


def _mask_secrets(hidden: Iterable[str]) -> Processor:
    """Return a processor that masks secrets, and logins in front of a host; other values are converted to text first."""
    secrets = tuple(hidden)

    def clean(value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(clean(name)): clean(one) for name, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean(one) for one in value]
        return mask(value if isinstance(value, str) else repr(value), secrets)

    def strike(_: object, __: str, event: EventDict) -> EventDict:
        return {name: value if name in _UNMASKED else clean(value) for name, value in event.items()}

    return strike
