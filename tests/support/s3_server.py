"""A minimal S3 bucket in memory behind a port, which can start to answer late."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http_server import serve_http

_MISSING = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
_NO_BUCKET = b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>"


@contextmanager
def serve_bucket(port: int, name: str = "bucket") -> Iterator[dict[str, bytes]]:
    """Serve the bucket at the port until the end of the block and yield its objects; no other bucket exists."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two packets, and the second would wait 40 ms

        def do_GET(self) -> None:
            bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            query = parse_qs(urlsplit(self.path).query)
            if bucket != name:
                self._answer(404, _NO_BUCKET)
            elif not key:
                self._answer(200, _listed(objects, query))
            elif key in objects:
                self._answer(200, objects[key])
            else:
                self._answer(404, _MISSING)

        def do_PUT(self) -> None:
            _, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            objects[key] = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(200, b"", objects[key])

        def do_DELETE(self) -> None:
            _, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            objects.pop(key, None)
            self._answer(204, b"")

        def _answer(self, status: int, body: bytes, marked: bytes | None = None) -> None:
            self.send_response(status)
            mark = hashlib.md5(body if marked is None else marked, usedforsecurity=False).hexdigest()
            self.send_header("ETag", f'"{mark}"')
            self.send_header("Last-Modified", self.date_time_string())
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serve_http(Handler, port):
        yield objects


def _listed(objects: dict[str, bytes], query: dict[str, list[str]]) -> bytes:
    prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
    found, folders = list[str](), set[str]()
    for key in sorted(key for key in objects if key.startswith(prefix)):
        folder, is_below, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if is_below:
            folders.add(f"{prefix}{folder}{delimiter}")
        else:
            found.append(key)
    rows = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(objects[key])}</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in found
    )
    rows += "".join(f"<CommonPrefixes><Prefix>{one}</Prefix></CommonPrefixes>" for one in sorted(folders))
    head = f"<Name>any</Name><Prefix>{prefix}</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
    return f"<ListBucketResult>{head}{rows}</ListBucketResult>".encode()
