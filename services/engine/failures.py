"""What requests get that cannot be computed."""

from __future__ import annotations

import structlog

from services.core.errors import EngineError, Overloaded
from services.core.telemetry.logs import safe_traceback

log = structlog.get_logger()


def closed_error() -> Overloaded:
    """Return what is raised once the scheduler is closed."""
    return Overloaded("This process is shutting down: try again in a moment.")


def as_engine_error(error: Exception) -> EngineError:
    """Return any error as one of the engine; log what a library raised."""
    if isinstance(error, EngineError):
        return error
    log.error("batch_error", frames=safe_traceback(error))  # without its message, which may contain a text
    wrapped = EngineError(f"The model could not compute a batch ({type(error).__name__}): see the log.")
    wrapped.__cause__ = error
    return wrapped
