"""How much of an HTTP answer is read into memory: another server wrote it, maybe a broken one.

`bounded` and `bounded_async` make a hook for `event_hooks={"response": [...]}` of httpx's clients, so that whatever reads an
answer (the client itself, or its login) reads no more. What counts is the size after decompression.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import httpx

from services.core.in_flight import format_size

GZIP_ONLY: Final = {"Accept-Encoding": "gzip"}
"""Headers of a request whose answer is bounded: a small answer in another encoding may become an endless one."""
_ENCODING: Final = "content-encoding"
_GZIP: Final = 16 + zlib.MAX_WBITS


class ResponseTooLarge(httpx.DecodingError):
    """An answer has more bytes than are read. The message goes on after who answered."""


def limit_response(most: int) -> Callable[[httpx.Response], None]:
    """A hook for a client. Reading, or the hook, raises AnswerTooLarge."""

    def bound(response: httpx.Response) -> None:
        count = _LimitedDecoder(response, most)
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _LimitedStream(response.stream, count)

    return bound


def limit_response_async(most: int) -> Callable[[httpx.Response], Awaitable[None]]:
    """A hook for an asynchronous client. Reading, or the hook, raises AnswerTooLarge."""

    async def bound(response: httpx.Response) -> None:
        count = _LimitedDecoder(response, most)
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _LimitedAsyncStream(response.stream, count)

    return bound


class _LimitedDecoder:
    """Decompresses what comes, and counts it. httpx finds no encoding left to undo."""

    def __init__(self, response: httpx.Response, most: int) -> None:
        self._max_bytes, self._size = most, 0
        encoding = response.headers.get(_ENCODING, "identity").lower()
        if encoding not in {"identity", "gzip"}:
            raise ResponseTooLarge(f"is compressed ({encoding[:20]!r}), which was not asked for")
        said = response.headers.get("content-length", "")
        if said.isdigit() and int(said) > most:
            raise self._too_large()
        self._gzip = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        if self._gzip:
            del response.headers[_ENCODING]

    def decode(self, chunk: bytes) -> bytes:
        """The chunk, which is small, and at most some thousand times as large as it came."""
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
        return ResponseTooLarge(f"has more than {format_size(self._max_bytes)}, and no more is read")


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
