"""Messages between a worker and its parent: JSON, each behind its length in four bytes. Uses the standard library alone."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

LENGTH_BYTES: Final = 4
MAX_BYTES: Final = 256 << 20
"""Of one message."""


class FrameTooLarge(ValueError):
    """A message is larger than MAX_BYTES."""


def encode(message: object) -> bytes:
    """Return the message as bytes. Raises FrameTooLarge, TypeError or ValueError if it is no JSON."""
    data = json.dumps(message, allow_nan=False).encode()
    if len(data) > MAX_BYTES:
        raise FrameTooLarge(f"{len(data)} bytes are more than {MAX_BYTES}")
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


class Frames:
    """Collects bytes until a message is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Add what was received."""
        self._buffer += chunk

    def take(self) -> Any | None:
        """Return the next message, or None if it is not complete. Raises FrameTooLarge, ValueError."""
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > MAX_BYTES:
            raise FrameTooLarge(f"{length} bytes are more than {MAX_BYTES}")
        end = LENGTH_BYTES + length
        if len(self._buffer) < max(end, LENGTH_BYTES + 1):
            return None
        data = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        return json.loads(data)


def receive(connection: socket.socket, frames: Frames) -> Any | None:
    """Wait for the next message; None at the end of the connection."""
    while (message := frames.take()) is None:
        chunk = connection.recv(1 << 16)
        if not chunk:
            return None
        frames.feed(chunk)
    return message
