"""JSON bodies: read, parse, and split large ones while they arrive. Large ones are parsed in threads, never on the event loop.

Label Studio's JSON comes from Python: it may hold NaN and lone surrogates, which orjson refuses and `json` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import orjson
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from services.core.errors import BadRequest, FitloopError
from services.core.http.limits import BodyTooLarge, body_too_large, read_chunks

LARGE_BODY: Final = 64 * 1024
"""Bytes of a body above which it is parsed in a thread."""

MAX_OBJECT_BYTES: Final = 8 << 20
"""Bytes of an object that is parsed whole: a label config or a command. Larger ones are split: see ListSplitter."""

MAX_OBJECT_VALUES: Final = 100_000
"""Values of such an object: parsing these takes 50 ms and holds the interpreter lock."""

NOT_JSON: Final = "The body is not JSON: send a JSON object."

_STORE_READS: Final = CapacityLimiter(4)

T = TypeVar("T")


class NoSuchResource(FitloopError):
    """There is no such project, version or action: 404."""


class Forbidden(FitloopError):
    """The request is not allowed in this way: 403."""


class NotReady(FitloopError):
    """The state has not been read yet: 503 with Retry-After."""

    def __init__(self) -> None:
        super().__init__("Fitloop is still reading its state: try again in a few seconds.")


async def read_body(request: Request, most: int | None = None) -> bytes:
    """Read the whole body. Raises BodyTooLarge, Overloaded, CompressedBody."""
    return b"".join(
        [
            chunk
            async for chunk in read_chunks(request, most or MAX_OBJECT_BYTES, "nothing here needs as much")
        ]
    )


async def read_object(request: Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Read the body as a JSON object. Raises BadRequest, BodyTooLarge, Overloaded, CompressedBody."""
    body = await read_body(request)
    if may_be_empty and not body.strip():
        return {}
    return await run_by_size(len(body), parse_object, body)


def has_small_body(request: Request) -> bool:
    """Return whether the request says that its body is small enough to be parsed at once."""
    length = request.headers.get("content-length", "")
    return length.isdigit() and int(length) <= LARGE_BODY


async def run_by_size(size: int, work: Callable[..., T], *arguments: object) -> T:
    """Call `work(*arguments)`: at once for a small body, in a thread for a large one."""
    return work(*arguments) if size <= LARGE_BODY else await to_thread.run_sync(work, *arguments)


async def run_store_read(work: Callable[..., T], *arguments: object) -> T:
    """Call `work(*arguments)`, which reads the store, in one of four threads: if the store hangs, Label Studio's requests have others."""
    return await to_thread.run_sync(work, *arguments, limiter=_STORE_READS)


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse an object. Raises BodyTooLarge, and BadRequest, whose message repeats nothing of the body."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_OBJECT_VALUES:
        raise BodyTooLarge(
            f"The body has more than {MAX_OBJECT_VALUES:,} values beside its tasks: nothing here needs as many."
        )
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = parse_python_json(body)
    if not isinstance(found, dict):
        raise BadRequest(
            f"The body must be a JSON object, and is {_TYPE_NAMES.get(type(found), 'a number')}."
        )
    return found


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


_TYPE_NAMES: Final = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def parse_python_json(body: bytes) -> Any:
    """Parse JSON that may hold NaN and lone surrogates. Raises BadRequest."""
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise BadRequest(NOT_JSON) from error


PIECE_BYTES: Final = 512 * 1024
"""Bytes from which a piece is cut: some thousand tasks, and 15 ms to parse."""

MAX_ELEMENT_BYTES: Final = 4 << 20
"""Bytes that one element may have."""

_BRACKET: Final = re.compile(
    rb"""(?: [^"{}\[\]]++ | "[^"\\]*+(?:\\.[^"\\]*+)*+" )*+ [{}\[\]]""", re.DOTALL | re.VERBOSE
)

_WHITESPACE: Final = b" \t\r\n"

_OPENING: Final = frozenset(b"{[")

_MAX_NAME_BYTES: Final = 64
"""Bytes before a list that hold its name and white space."""


class ListSplitter:
    """Splits the lists of a large JSON object into pieces while it arrives: call `feed` for each chunk, then `envelope`.

    A piece is parsed by itself, so neither time nor memory is needed for the whole at once. Only brackets outside strings are
    looked at here; whether all of it is JSON shows when the envelope and the pieces are parsed.
    """

    def __init__(self, name: str = "") -> None:
        """Split the list called `name`; "": every list of the object."""
        self._name = f'"{name}"'.encode() if name else b""
        self._buffer = bytearray()
        self._scanned = 0
        """Brackets are counted up to here."""
        self._consumed = 0
        """Nothing from here on has been returned."""
        self._depth = 0
        self._in_list = False
        self._envelope = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the complete pieces. Raises BodyTooLarge."""
        self._buffer += data
        pieces = list(self._pieces())
        if not self._in_list:
            self._add_to_envelope(self._scanned)
        del self._buffer[: self._consumed]
        self._scanned, self._consumed = self._scanned - self._consumed, 0
        self._check()
        return pieces

    def envelope(self) -> dict[str, Any]:
        """Return the object, with empty lists in place of split ones. Raises BadRequest, BodyTooLarge."""
        if self._in_list:
            raise BadRequest(NOT_JSON)
        return parse_object(bytes(self._envelope + self._buffer))

    def _pieces(self) -> Iterator[bytes]:
        while found := _BRACKET.match(self._buffer, self._scanned):
            self._scanned = end = found.end()
            del found  # a match locks the buffer's size
            if self._buffer[end - 1] in _OPENING:
                self._depth += 1
                if self._depth == 2 and self._begins_list(end):
                    self._in_list = True
                    self._add_to_envelope(end)
            else:
                self._depth -= 1
                if self._in_list and self._depth == 1:
                    self._in_list = False
                    yield self._take(end - 1)
                elif self._in_list and self._depth == 2 and end - self._consumed >= PIECE_BYTES:
                    yield self._take(end)

    def _begins_list(self, end: int) -> bool:
        if self._buffer[end - 1] != ord("["):
            return False
        before = bytes(self._buffer[max(self._consumed, end - 1 - _MAX_NAME_BYTES) : end - 1]).rstrip(
            _WHITESPACE
        )
        name = before.removesuffix(b":").rstrip(_WHITESPACE)
        return name.endswith(self._name) and not name.endswith(b"\\" + self._name)

    def _take(self, end: int) -> bytes:
        piece, self._consumed = bytes(self._buffer[self._consumed : end]), end
        return piece

    def _add_to_envelope(self, end: int) -> None:
        self._envelope += self._take(end)

    def _check(self) -> None:
        if self._in_list and len(self._buffer) > MAX_ELEMENT_BYTES + PIECE_BYTES:
            raise body_too_large(MAX_ELEMENT_BYTES, "One task of the body", "send the others without it")
        if not self._in_list and len(self._envelope) + len(self._buffer) > MAX_OBJECT_BYTES:
            raise body_too_large(MAX_OBJECT_BYTES, "The body without its tasks", "nothing here needs as much")


def parse_elements(piece: bytes, *, first: bool) -> list[Any]:
    """Parse the elements of a piece; all but the first piece begin with a comma. Raises BadRequest."""
    inner = piece.strip(_WHITESPACE)
    if inner and not first:
        if not inner.startswith(b","):
            raise BadRequest(NOT_JSON)
        inner = inner[1:].strip(_WHITESPACE)
        if not inner:
            raise BadRequest(NOT_JSON)
    whole = b"[" + inner + b"]"
    try:
        found = orjson.loads(whole)
    except orjson.JSONDecodeError:
        found = parse_python_json(whole)
    if not isinstance(found, list):
        raise BadRequest(NOT_JSON)
    return found


def parse_project_id(value: object) -> int | None:
    """Parse Label Studio's id of a project: `5`, `"5"`, `"5.1795473352"` (with the creation time), or an object with `id`."""
    if isinstance(value, Mapping):
        value = value.get("id")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    digits = str(value).partition(".")[0].strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return int(digits)
