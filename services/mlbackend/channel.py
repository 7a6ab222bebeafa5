"""The parent's end of the connection to a worker: one message, one answer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from services.mlbackend import frames

_SLICE_SECONDS: Final = 0.25
"""Between two calls of `on_wait`."""
_WRITE_SECONDS: Final = 10.0


class Channel:
    """A connection to one worker. One message at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = frames.Frames()

    def ask(self, message: object, on_wait: Callable[[], None]) -> Any:
        """Send a message and return its answer; `on_wait` is called meanwhile, and may raise. Raises Gone, FrameTooLarge."""
        _write(self._connection, frames.encode(message))
        self._connection.settimeout(_SLICE_SECONDS)
        while (answer := self._frames.take()) is None:
            on_wait()
            self._frames.feed(_read(self._connection))
        return answer

    def close(self) -> None:
        """Close it: the worker ends."""
        self._connection.close()


class Missed(Exception):
    """The deadline has passed."""


class Gone(Exception):
    """The connection has ended."""


def _write(connection: socket.socket, message: bytes) -> None:
    connection.settimeout(_WRITE_SECONDS)  # the process reads at once, or not at all
    try:
        connection.sendall(message)
    except OSError as error:
        raise Gone from error


def _read(connection: socket.socket) -> bytes:
    """Return what has come, b"" if nothing came within the connection's timeout. Raises Gone at its end."""
    try:
        chunk = connection.recv(1 << 20)
    except TimeoutError:
        return b""
    except OSError as error:
        raise Gone from error
    if not chunk:
        raise Gone
    return chunk
