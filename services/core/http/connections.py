"""Time limits and a maximum number of connections for a port; uvicorn's own protocol has none until a request is complete.

A connection is closed if it sends no complete head, sends a body too slowly, or reads an answer too slowly. If there are
too many, the one that has been idle longest is dropped, so that a new client is always served.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()
_RESERVED_FILES: Final = 256
"""Reserved for the other port, the lease, the bucket, Label Studio and the predictors."""
_MAX_FILES: Final = 65_536
_STATUS_LINES: Final = {
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}


@dataclass(frozen=True)
class Bounds:
    """Limits that a client must respect."""

    head_seconds: float = 10.0
    """For a complete head, from the connection or from the first byte after an answer."""
    head_bytes: int = 64 * 1024
    rate_window_seconds: float = 10.0
    """Window in which the rate is measured: the longest pause allowed."""
    bytes_per_second: int = 16_000
    """Minimum rate of a body that is sent, and of an answer that is read."""
    body_seconds: float = 300.0
    """For a complete body, at whatever rate."""
    connections: int = 4096
    """Maximum; each takes about 12 kB."""


MANAGEMENT_BOUNDS: Final = Bounds(connections=64)
"""For a port of probes and metrics, which no ingress routes to."""


def raise_file_limit(wanted: int = _MAX_FILES) -> int:
    """Raise the soft limit of open files as far as the system allows, and return the limit in effect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft


def public_bounds(files: int) -> Bounds:
    """Return the bounds of a public port in a process that may open `files` files."""
    return Bounds(connections=max(64, min(Bounds.connections, files - _RESERVED_FILES)))


def bounded_protocol(bounds: Bounds) -> type[BoundedProtocol]:
    """Return a protocol class for one port, as `uvicorn.Config(http=...)` expects it."""
    return type("PortProtocol", (BoundedProtocol,), {"bounds": bounds, "idle": {}})


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    bounds: ClassVar[Bounds] = Bounds()
    idle: ClassVar[dict[BoundedProtocol, None]] = {}
    """Connections of the port without a request, the longest idle first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._rate_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body_bytes = 0
        self._body_since = 0.0
        self._body_open = False
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for a head; if there are too many connections, drop the one that has been idle longest."""
        super().connection_made(transport)
        self._mark_idle()
        self._start_head_timer()
        if len(self.connections) > self.bounds.connections:
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.pop(self, None)
        self._stop_head_timer()
        self._stop_rate_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data on. A head that has begun must be completed, and a body must keep coming."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._body_open:
            self._start_rate_timer()
        elif self in self.idle and self._head_bytes:
            self._start_head_timer()
            if self._head_bytes > self.bounds.head_bytes:
                self._close(431, "its head is too large")

    def on_headers_complete(self) -> None:
        """Start to wait for the request's body."""
        self._stop_head_timer()
        if not self.flow.write_paused:  # the window of the request before
            self._stop_rate_timer()
        self.idle.pop(self, None)
        self._head_bytes = self._body_bytes = 0
        self._body_open, self._body_since = True, self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the body is complete."""
        self._body_open, self._head_bytes = False, 0
        super().on_message_complete()
        if self.cycle.response_complete:  # its body was not needed
            self._mark_idle()

    def on_response_complete(self) -> None:
        """Wait for the next request, or until unsent and unread data is gone."""
        super().on_response_complete()
        if self.transport.is_closing() or self._body_open:
            self._start_rate_timer()
        elif self.cycle.response_complete:
            self._mark_idle()

    def pause_writing(self) -> None:
        """Start to check the rate: the client reads more slowly than it is sent to."""
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self._start_rate_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, whatever is still unsent."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _mark_idle(self) -> None:
        """Put the connection at the end of those that are idle."""
        self.idle.pop(self, None)
        self.idle[self] = None

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self.bounds.head_seconds, self._close, 408, "its head did not arrive in time"
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_rate_timer(self) -> None:
        if self._rate_timer:
            self._rate_timer.cancel()
            self._rate_timer = None

    def _start_rate_timer(self) -> None:
        if self._rate_timer is None:
            self._rate_timer = self.loop.call_later(self.bounds.rate_window_seconds, self._check_rate)

    def _check_rate(self) -> None:
        """Run once per window while a body arrives or an answer is being read."""
        self._rate_timer = None
        unsent, before = self.transport.get_write_buffer_size(), self._unsent
        least = self.bounds.bytes_per_second * self.bounds.rate_window_seconds
        takes = self.flow.write_paused or self.transport.is_closing()
        if takes and before - unsent < min(least, before):
            log.debug("connection_closed", reason="the client does not read the answer")
            self.transport.abort()
        elif self._body_open and self.cycle.response_complete:
            self._close(0, "its body continues after the answer")
        elif self._body_open and not self.flow.read_paused and self._is_too_slow(least):
            self._close(408, "its body arrives too slowly")
        elif self._body_open or (takes and unsent):
            self._unsent, self._body_bytes = unsent, 0
            self._start_rate_timer()

    def _is_too_slow(self, least: float) -> bool:
        return self._body_bytes < least or self.loop.time() - self._body_since > self.bounds.body_seconds

    def _close(self, status: int, reason: str) -> None:
        """Close the connection; state the reason if the client has sent something and got no answer yet."""
        if self.transport.is_closing():
            return
        log.debug("connection_closed", reason=reason)
        answers = self._body_open and self.cycle.response_started
        if status and not answers and (self._head_bytes or self._body_open):
            self.transport.write(_STATUS_LINES[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
