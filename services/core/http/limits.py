"""Limits of request and response bodies in memory.

`LimitInFlight` is ASGI middleware: all requests share a budget that fits the process's memory, and each releases its bytes
once it is answered; `read_chunks` counts its body. `limit_response` and `limit_response_async` are hooks for
`event_hooks={"response": [...]}` of httpx's clients; they count the decompressed size.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from starlette.requests import Request

from services.core.errors import FitloopError, Overloaded
from services.core.http import App, Receive, Scope, Send

MEMORY_SHARE: Final = 6
"""One part in so many of the memory; the rest is for the process itself and for the parsed bytes."""

_STATE: Final = "in_flight"


class BodyTooLarge(FitloopError):
    """A body, or a part of it, is larger than the limit; the answer is 413."""


class CompressedBody(FitloopError):
    """The body is compressed; the answer is 415."""


@dataclass
class Budget:
    """Bytes that all requests together may hold. Use it from one event loop only."""

    max_bytes: int
    used: int = 0


@dataclass
class Reservation:
    """The bytes of a budget that one request holds."""

    budget: Budget
    size: int = 0

    def reserve(self, size: int) -> None:
        """Reserve more bytes. Raises BodyTooLarge if one request may not have them, Overloaded if others hold the rest."""
        most = self.budget.max_bytes
        if self.size + size > most:
            raise BodyTooLarge(
                f"This request needs more than {format_size(most)}, which is all that fits into the memory of this process: "
                "send fewer tasks at once, or raise its memory limit."
            )
        if self.budget.used + size > most:
            raise Overloaded(
                f"Requests of {format_size(self.budget.used)} are being answered, and no more than {format_size(most)} fit into "
                "the memory of this process: try again in a moment."
            )
        self.size += size
        self.budget.used += size

    def release(self, size: int) -> None:
        """Release bytes."""
        self.size -= size
        self.budget.used -= size


class LimitInFlight:
    """Give each request a reservation."""

    def __init__(self, app: App, budget: Budget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; release all its bytes once it is answered."""
        reservation = Reservation(self._budget)
        scope.setdefault("state", {})[_STATE] = reservation
        try:
            await self._app(scope, receive, send)
        finally:
            reservation.release(reservation.size)


def reservation_of(request: Request) -> Reservation:
    found: Reservation = request.state.in_flight
    return found


async def read_chunks(
    request: Request, most: int, advice: str = "send fewer tasks at once"
) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, and reserve its bytes. Raises BodyTooLarge (early if Content-Length says so), Overloaded, CompressedBody."""
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise CompressedBody(f"The body is compressed ({encoding[:20]!r}): send it as it is.")
    length, size, reservation = request.headers.get("content-length", ""), 0, reservation_of(request)
    if length.isdigit() and int(length) > most:
        raise body_too_large(most, advice=advice)
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise body_too_large(most, advice=advice)
        reservation.reserve(len(chunk))
        yield chunk


def body_too_large(
    most: int, what: str = "The body", advice: str = "send fewer tasks at once"
) -> BodyTooLarge:
    """Return the error that names the limit."""
    return BodyTooLarge(f"{what} is larger than {format_size(most)}: {advice}.")


def format_size(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} kB"


GZIP_ONLY: Final = {"Accept-Encoding": "gzip"}
"""Headers of a request whose answer is limited: in other encodings a small answer may expand without end."""

_ENCODING: Final = "content-encoding"

_GZIP: Final = 16 + zlib.MAX_WBITS


class ResponseTooLarge(httpx.DecodingError):
    """An answer is larger than the limit. The message continues after the server's name."""


def limit_response(most: int) -> Callable[[httpx.Response], None]:
    """Return a hook for a client. Reading, or the hook itself, raises ResponseTooLarge."""

    def bound(response: httpx.Response) -> None:
        count = _LimitedDecoder(response, most)
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _LimitedStream(response.stream, count)

    return bound


def limit_response_async(most: int) -> Callable[[httpx.Response], Awaitable[None]]:
    """Return a hook for an asynchronous client. Reading, or the hook itself, raises ResponseTooLarge."""

    async def bound(response: httpx.Response) -> None:
        count = _LimitedDecoder(response, most)
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _LimitedAsyncStream(response.stream, count)

    return bound


class _LimitedDecoder:
    """Decompress and count the body, so that httpx has no encoding left to decode."""

    def __init__(self, response: httpx.Response, most: int) -> None:
        self._max_bytes, self._size = most, 0
        encoding = response.headers.get(_ENCODING, "identity").lower()
        if encoding not in {"identity", "gzip"}:
            raise ResponseTooLarge(f"is compressed ({encoding[:20]!r}), which was not requested")
        length = response.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise self._too_large()
        self._gzip = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        if self._gzip:
            del response.headers[_ENCODING]

    def decode(self, chunk: bytes) -> bytes:
        """Decode a chunk, which is small: the result is at most some thousand times as large."""
        if self._gzip:
            try:
                chunk = self._gzip.decompress(chunk)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise self._too_large()
        return chunk

    def _too_large(self) -> ResponseTooLarge:
        return ResponseTooLarge(f"is larger than the limit of {format_size(self._max_bytes)}")


class _LimitedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, count: _LimitedDecoder) -> None:
        self._stream, self._count = stream, count

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield self._count.decode(chunk)

    def close(self) -> None:
        self._stream.close()


class _LimitedAsyncStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, count: _LimitedDecoder) -> None:
        self._stream, self._count = stream, count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield self._count.decode(chunk)

    async def aclose(self) -> None:
        await self._stream.aclose()


_V2, _V1 = "memory.max", "memory/memory.limit_in_bytes"


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the limit in bytes. Version 1 of control groups writes "no limit" as a number larger than any machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in (_V2, _V1):
        try:
            limit = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) > 0:
            return min(int(limit), machine)
    return machine
