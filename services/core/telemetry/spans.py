"""What a span is to those who make one: the types that `core.tracing` and what stands behind it have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

Kind = Literal["internal", "server", "client"]
Value = str | int | float | bool
Said = Mapping[str, Value]
NOTHING: Said = {}


class Span(Protocol):
    """Something that goes on."""

    def say(self, **attributes: Value) -> None:
        """Known of it only now."""
        ...

    def failed(self, kind: str) -> None:
        """It went wrong; `kind` of error."""
        ...

    def end(self) -> None:
        """It is over; a second time changes nothing."""
        ...


class Tracer(Protocol):
    """Where spans come from."""

    def begin(self, name: str, kind: Kind, parent: str, said: Said) -> Span:
        """A span, of the trace that `parent` (a traceparent) names, else below the current one."""
        ...

    def within(self, span: Span) -> Any:
        """A context in which the span is the current one."""
        ...

    def traceparent(self) -> str:
        """Of the current span; "" where there is none."""
        ...

    def close(self) -> None:
        """Send what was not sent yet, for a few seconds at most."""
        ...
