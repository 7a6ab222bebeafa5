"""structlog, once for every process: colours on a terminal, one JSON object a line elsewhere.

Whoever logs binds ids (project, run, version) and never a text, a token or a password.
"""

from __future__ import annotations

import logging
import sys

import structlog

from services.core.settings import LoggingSettings

_OURS = ("services", "__main__")
"""What LOG_LEVEL=DEBUG is about: a library's lines at that level are many, and say what they like of texts and tokens."""


def configure(settings: LoggingSettings) -> None:
    """Set the level and the shape of all log lines, those of libraries (at INFO or above) included; they go to stderr."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.level]
    root.setLevel(max(level, logging.INFO))
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level)
    for chatty in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(chatty).setLevel("WARNING")
