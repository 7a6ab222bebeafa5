"""Bodies in and out: JSON by orjson, large ones in a thread, because the event loop never computes.

Label Studio's JSON is Python's: it may hold NaN and halves of surrogate pairs, which orjson refuses and `json` reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from services.core.errors import BadRequest, FitloopError
from services.core.http.limits import BodyTooLarge, read_chunks

LARGE: Final = 64 * 1024
"""Bytes of a body beyond which it is read in a thread."""
MOST: Final = 8 << 20
"""Bytes of an object that is parsed whole: a label config, or what a person asks for. Larger ones are cut: see pieces.py."""
VALUES: Final = 100_000
"""Values of such an object, which is parsed in 50 ms then: nothing else of the process goes on meanwhile."""
NO_JSON: Final = "The body is not JSON: send a JSON object."
_READERS: Final = CapacityLimiter(4)
T = TypeVar("T")


class Unknown(FitloopError):
    """There is no such project, version or action; the answer is 404."""


class Forbidden(FitloopError):
    """It may not be asked for in this way; the answer is 403."""


class NotReady(FitloopError):
    """The state has not been read yet; the answer is 503 with Retry-After."""


async def read(request: Request, most: int | None = None) -> bytes:
    """The whole body. Raises TooLarge, Overloaded, Compressed."""
    return b"".join(
        [chunk async for chunk in read_chunks(request, most or MOST, "nothing here needs as much")]
    )


async def read_object(request: Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest, TooLarge, Overloaded, Compressed."""
    body = await read(request)
    if may_be_empty and not body.strip():
        return {}
    return await compute(len(body), parse_object, body)


async def compute(size: int, work: Callable[..., T], *arguments: object) -> T:
    """`work(*arguments)`: here for a small body, in a thread for a large one."""
    return work(*arguments) if size <= LARGE else await to_thread.run_sync(work, *arguments)


async def look_up(work: Callable[..., T], *arguments: object) -> T:
    """`work(*arguments)`, which reads the store: four at a time, so that one that hangs leaves threads to Label Studio's requests."""
    return await to_thread.run_sync(work, *arguments, limiter=_READERS)


def parse_object(body: bytes) -> dict[str, Any]:
    """The object. Raises TooLarge, and BadRequest with a sentence that repeats nothing of the body."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > VALUES:
        raise BodyTooLarge(
            f"The body has more than {VALUES:,} values beside its tasks: nothing here needs as many."
        )
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = parse_as_python_writes(body)
    if not isinstance(found, dict):
        raise BadRequest(f"The body must be a JSON object, and is {_KINDS.get(type(found), 'a number')}.")
    return found


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


_KINDS: Final = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def parse_as_python_writes(body: bytes) -> Any:
    """With NaN and halves of surrogate pairs. Raises BadRequest."""
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise BadRequest(NO_JSON) from error
