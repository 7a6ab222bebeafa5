"""A bucket in memory behind the S3 protocol, in a process of its own: every request takes a set time.

`/bench/…` sets the latency and returns what was read and written, when, and by which client: a client's access key is its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from bench.scale.asgi import Receive, Scope, Send, answer, answer_json, hang, read_body, serve
from bench.scale.content import NAME, Content, write_content

_PAGE = 1000
_MISSING = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"


@dataclass
class Bucket:
    """Objects, and a record of requests."""

    seconds: float = 0.005
    hanging: set[str] = field(default_factory=set)
    """Clients whose changes are never answered."""
    objects: dict[str, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    """By "<client> <method> <kind>"."""
    written: dict[str, float] = field(default_factory=dict)
    """When each object was written last."""
    tables: list[tuple[float, bytes]] = field(default_factory=list)
    """Every serving.json, and when it was written."""

    def put(self, key: str, data: bytes) -> None:
        if key not in self.objects:
            insort(self.order, key)
        self.objects[key] = data
        self.written[key] = time.time()
        if key == "serving.json":
            self.tables.append((self.written[key], data))

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            del self.order[bisect_left(self.order, key)]

    def fill(self, content: Content) -> None:
        """Replace all objects."""
        self.objects = write_content(content)
        self.order = sorted(self.objects)
        self.written, self.tables, self.requests = {}, [], Counter()

    def keys(self, prefix: str) -> list[str]:
        start = bisect_left(self.order, prefix)
        return self.order[start : bisect_left(self.order, prefix + "\x7f")]

    def listing(self, prefix: str, delimiter: str, after: str) -> bytes:
        """One page of a listing."""
        rows, position = list[str](), bisect_left(self.order, max(prefix, after + "\x00" if after else ""))
        last = ""
        while position < len(self.order) and len(rows) < _PAGE:
            key = self.order[position]
            if not key.startswith(prefix):
                break
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                last, position = key, position + 1
                rows.append(
                    f"<Contents><Key>{key}</Key><Size>{len(self.objects[key])}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
            else:
                last = key[: end + 1] + "\x7e"
                rows.append(f"<CommonPrefixes><Prefix>{key[: end + 1]}</Prefix></CommonPrefixes>")
                position = bisect_left(self.order, last)
        more = position < len(self.order) and self.order[position].startswith(prefix)
        head = f"<Name>{NAME}</Name><Prefix>{prefix}</Prefix><MaxKeys>{_PAGE}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>"
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult>{head}{token}{''.join(rows)}</ListBucketResult>".encode()


BUCKET = Bucket()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    path, query = scope["path"], parse_qs(scope["query_string"].decode())
    if path.startswith("/bench/"):
        await answer_json(send, _control(path.removeprefix("/bench/"), json.loads(body or b"{}")))
        return
    key, method = unquote(path).removeprefix(f"/{NAME}").lstrip("/"), scope["method"]
    headers = dict(scope["headers"])
    who = _client(headers)
    kind = "list" if not key else key.split("/", 1)[0]
    BUCKET.requests[f"{who} {method} {kind}"] += 1
    if method != "GET" and who in BUCKET.hanging:
        await hang(receive)
        return
    await asyncio.sleep(BUCKET.seconds)
    if not key:
        prefix, delimiter, token = (
            query.get(name, [""])[0] for name in ("prefix", "delimiter", "continuation-token")
        )
        await answer(send, 200, BUCKET.listing(prefix, delimiter, token), "application/xml")
    elif method == "PUT":
        BUCKET.put(key, body)
        await answer(send, 200, b"", etag=_mark(body))
    elif method == "DELETE":
        BUCKET.delete(key)
        await answer(send, 204, b"")
    elif key not in BUCKET.objects:
        await answer(send, 404, _MISSING, "application/xml")
    else:
        await _send_object(send, BUCKET.objects[key], headers.get(b"if-none-match", b"").decode())


async def _send_object(send: Send, data: bytes, known: str) -> None:
    mark = _mark(data)
    if known == mark:
        await answer(send, 304, b"", etag=mark)
    else:
        await answer(
            send,
            200,
            data,
            "application/octet-stream",
            etag=mark,
            **{"last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        )


def _control(name: str, given: dict[str, Any]) -> object:
    if name == "fill":
        BUCKET.fill(Content(**given))
    elif name == "set":
        BUCKET.seconds = given.get("seconds", BUCKET.seconds)
        BUCKET.hanging = set(given.get("hanging", BUCKET.hanging))
    elif name == "requests":
        return BUCKET.requests
    elif name == "written":
        return {key: at for key, at in BUCKET.written.items() if key.startswith(given["prefix"])}
    elif name == "keys":
        return BUCKET.keys(given["prefix"])
    elif name == "served":
        return [
            (at, {key: served["current"] for key, served in json.loads(table)["projects"].items()})
            for at, table in BUCKET.tables
            if at >= given["since"]
        ]
    return {}


def _client(headers: dict[bytes, bytes]) -> str:
    found = re.search(rb"Credential=([^/]+)/", headers.get(b"authorization", b""))
    return found[1].decode() if found else "unknown"


def _mark(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


if __name__ == "__main__":
    serve(app)
