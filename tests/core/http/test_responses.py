"""How much of an answer is read, whether it says its length, is compressed, or goes on and on."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from services.core.http.limits import GZIP_ONLY, ResponseTooLarge, limit_response, limit_response_async

Get = Callable[..., httpx.Response]
MOST = 1 << 20
TOO_LARGE = "is larger than the limit of 1 MB"


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """What a server sends, and how much of it was read."""

    def __init__(self, body: bytes, times: int = 1) -> None:
        self.body, self.times, self.read, self.closed = body, times, 0, False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.times):
            for start in range(0, len(self.body), 1024):
                self.read += 1024
                yield self.body[start : start + 1024]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def _get(stream: Chunks, **headers: str) -> httpx.Response:
    actual = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=actual, stream=stream))
    with httpx.Client(transport=transport, event_hooks={"response": [limit_response(MOST)]}) as client:
        return client.get("http://answers")


def _get_async(stream: Chunks, **headers: str) -> httpx.Response:
    actual = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=actual, stream=stream))

    async def get() -> httpx.Response:
        hooks = {"response": [limit_response_async(MOST)]}
        async with httpx.AsyncClient(transport=transport, event_hooks=hooks) as client:
            return await client.get("http://answers")

    return asyncio.run(get())


@pytest.mark.parametrize("get", [_get, _get_async])
def test_an_answer_up_to_the_bound_is_read(get: Get) -> None:
    assert get(Chunks(b"x" * MOST)).content == b"x" * MOST
    assert get(Chunks(gzip.compress(b"x" * MOST)), content_encoding="gzip").content == b"x" * MOST


@pytest.mark.parametrize("get", [_get, _get_async])
def test_an_endless_answer_is_read_up_to_the_limit(get: Get) -> None:
    endless = Chunks(b"x" * 1024, times=1 << 30)
    with pytest.raises(ResponseTooLarge, match=TOO_LARGE):
        get(endless)
    assert endless.read == MOST + 1024
    assert endless.closed


@pytest.mark.parametrize("get", [_get, _get_async])
def test_a_large_content_length_is_refused_unread(get: Get) -> None:
    large = Chunks(b"x" * (MOST + 1))
    with pytest.raises(ResponseTooLarge, match=TOO_LARGE):
        get(large, content_length=str(MOST + 1))
    assert (large.read, large.closed) == (0, True)


@pytest.mark.parametrize("get", [_get, _get_async])
def test_the_decompressed_size_counts(get: Get) -> None:
    bomb = Chunks(gzip.compress(b"x" * (64 * MOST)))
    with pytest.raises(ResponseTooLarge, match=TOO_LARGE):
        get(bomb, content_encoding="gzip")
    assert bomb.read <= 4096


def test_an_unrequested_encoding_is_refused() -> None:
    assert GZIP_ONLY == {"Accept-Encoding": "gzip"}
    with pytest.raises(ResponseTooLarge, match="'br'"):
        _get(Chunks(b"x"), content_encoding="br")
    with pytest.raises(httpx.DecodingError):
        _get(Chunks(b"no gzip at all"), content_encoding="gzip")
