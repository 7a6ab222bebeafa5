"""A large JSON object, cut while it comes: elements of its lists in pieces, and the envelope around them.

A piece is parsed by itself, so that neither time nor memory is needed for the whole at once. Only brackets outside of
texts are looked at here; whether all of it is JSON is found when envelope and pieces are parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from services.adapter.routes.bodies import MOST, NO_JSON, parse_as_python_writes, parse_object
from services.core.errors import BadRequest
from services.core.http.limits import body_too_large

PIECE: Final = 512 * 1024
"""Bytes from which a piece is cut: some thousand tasks, and 15 ms to parse."""
LONGEST: Final = 4 << 20
"""Bytes that one element may have."""
_BRACKET: Final = re.compile(
    rb"""(?: [^"{}\[\]]++ | "[^"\\]*+(?:\\.[^"\\]*+)*+" )*+ [{}\[\]]""", re.DOTALL | re.VERBOSE
)
_BLANK: Final = b" \t\r\n"
_OPENING: Final = frozenset(b"{[")
_NAME: Final = 64
"""Bytes before a list that hold its name, blanks included."""


class Cutter:
    """`feed`, as often as something comes, then `envelope`."""

    def __init__(self, name: str = "") -> None:
        """`name` is that of the one list that is cut; "": every list of the object is."""
        self._name = f'"{name}"'.encode() if name else b""
        self._buffer = bytearray()
        self._at = 0
        """Up to here brackets are counted."""
        self._cut = 0
        """From here nothing has been handed out."""
        self._depth = 0
        self._in_list = False
        self._outside = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that are whole. Raises TooLarge."""
        self._buffer += data
        pieces = list(self._pieces())
        if not self._in_list:
            self._set_aside(self._at)
        del self._buffer[: self._cut]
        self._at, self._cut = self._at - self._cut, 0
        self._check()
        return pieces

    def envelope(self) -> dict[str, Any]:
        """The object, with empty lists where they were cut. Raises BadRequest, TooLarge."""
        if self._in_list:
            raise BadRequest(NO_JSON)
        return parse_object(bytes(self._outside + self._buffer))

    def _pieces(self) -> Iterator[bytes]:
        while found := _BRACKET.match(self._buffer, self._at):
            self._at = end = found.end()
            del found  # the buffer cannot be changed while it is looked at
            if self._buffer[end - 1] in _OPENING:
                self._depth += 1
                if self._depth == 2 and self._begins_list(end):
                    self._in_list = True
                    self._set_aside(end)
            else:
                self._depth -= 1
                if self._in_list and self._depth == 1:
                    self._in_list = False
                    yield self._taken(end - 1)
                elif self._in_list and self._depth == 2 and end - self._cut >= PIECE:
                    yield self._taken(end)

    def _begins_list(self, end: int) -> bool:
        if self._buffer[end - 1] != ord("["):
            return False
        before = bytes(self._buffer[max(self._cut, end - 1 - _NAME) : end - 1]).rstrip(_BLANK)
        name = before.removesuffix(b":").rstrip(_BLANK)
        return name.endswith(self._name) and not name.endswith(b"\\" + self._name)

    def _taken(self, end: int) -> bytes:
        piece, self._cut = bytes(self._buffer[self._cut : end]), end
        return piece

    def _set_aside(self, end: int) -> None:
        self._outside += self._taken(end)

    def _check(self) -> None:
        if self._in_list and len(self._buffer) > LONGEST + PIECE:
            raise body_too_large(LONGEST, "One task of the body", "send the others without it")
        if not self._in_list and len(self._outside) + len(self._buffer) > MOST:
            raise body_too_large(
                MOST, "What stands beside the tasks in the body", "nothing here needs as much"
            )


def elements(piece: bytes, *, first: bool) -> list[Any]:
    """The piece's elements; all but the first piece begin with a comma. Raises BadRequest."""
    inner = piece.strip(_BLANK)
    if inner and not first:
        if not inner.startswith(b","):
            raise BadRequest(NO_JSON)
        inner = inner[1:].strip(_BLANK)
        if not inner:
            raise BadRequest(NO_JSON)
    whole = b"[" + inner + b"]"
    try:
        found = orjson.loads(whole)
    except orjson.JSONDecodeError:
        found = parse_as_python_writes(whole)
    if not isinstance(found, list):
        raise BadRequest(NO_JSON)
    return found
