"""A bucket as an ObjectStore: MinIO or any other S3. Plain requests only: no conditional PUT, no versioning.

Reads of documents are complete or an error (their length is checked) and end within seconds; files are copied to a cache
folder, once per state of the object. The client retries transient errors a few times; callers that can wait longer do.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import stamina
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError, IncompleteRead, MaxRetryError, ReadTimeoutError

from services.core.errors import BadConfig
from services.core.settings import S3Settings, StorageSettings
from services.core.store import Entry, check_key, check_prefix, max_bytes, object_too_large
from services.core.store.s3.cache import Cache
from services.core.store.s3.client import connect
from services.core.store.s3.errors import FAILURES, S3Errors, status_of

if TYPE_CHECKING:
    from minio import Minio
    from urllib3 import BaseHTTPResponse

_PART_BYTES = 16 << 20
"""A larger file goes up in parts of this size, three at a time in memory."""
_PARTS_AT_ONCE = 2
_CHUNK = 1 << 20
_CHANGE_ATTEMPTS = 3
_READ_ATTEMPTS = 3
"""For an answer whose body broke off."""


class S3Store:
    """An ObjectStore of the keys that begin with `prefix` in one bucket."""

    def __init__(self, url: str, settings: S3Settings, storage: StorageSettings) -> None:
        """`url` is s3://bucket/prefix/. No request is made yet. Raises BadConfig."""
        self.bucket, self.prefix = _parse_url(url)
        self.url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self._errors = S3Errors(self.url, self.bucket, settings)
        self._clients = connect(settings)
        self._cache = Cache(storage.cache_dir, f"{settings.endpoint} {self.url}", storage.cache_mb)
        self._seconds = settings.write_seconds

    def read(self, key: str) -> bytes:
        """Return the object's bytes. Raises NotFound."""
        buffer = io.BytesIO()
        self._get(self._clients.documents, key, "", buffer, self._deadline, max_bytes(key))
        return buffer.getvalue()

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """Return the object's bytes and its ETag; None if that is `mark`. Raises NotFound."""
        buffer = io.BytesIO()
        now = self._get(self._clients.documents, key, mark, buffer, self._deadline, max_bytes(key))
        return None if now is None else (buffer.getvalue(), now)

    def write(self, key: str, data: bytes) -> None:
        """Write the object atomically."""
        put, size = self._clients.documents.put_object, len(data)
        part = max(_PART_BYTES, size)  # one part, so one request
        self._change(
            key, "written to", lambda name: put(self.bucket, name, io.BytesIO(data), size, part_size=part)
        )

    def upload(self, source: Path, key: str) -> None:
        """Upload a local file of any size atomically."""
        put = partial(
            self._clients.transfers.fput_object,
            self.bucket,
            file_path=str(source),
            part_size=_PART_BYTES,
            num_parallel_uploads=_PARTS_AT_ONCE,
        )
        self._change(key, "written to", put)

    def local(self, key: str) -> Path:
        """Return the path of a copy, downloaded once per state of the object. Raises NotFound."""
        self._name(key)
        try:
            return self._copy(key)
        except OSError as error:
            raise self._errors.translate(error, key, "copied from") from error

    def forget(self, key: str) -> bool:
        self._name(key)
        return self._cache.forget(key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all objects whose key begins with `prefix`, sorted by key: one request per thousand."""
        return iter(self._list(prefix, recursive=True))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List all keys that begin with `prefix`, sorted."""
        return (entry.key for entry in self.entries(prefix))

    def folders(self, prefix: str) -> list[str]:
        """List the names directly below `prefix`, sorted: one request per thousand names, whatever they contain."""
        found = (entry.key for entry in self._list(prefix, recursive=False))
        return sorted(key.removeprefix(prefix).rstrip("/") for key in found)

    def delete(self, key: str) -> None:
        """Delete the object and its local copy."""
        remove = self._clients.documents.remove_object
        self._change(key, "deleted from", lambda name: remove(self.bucket, name))
        with contextlib.suppress(OSError):
            self._cache.forget(key)

    def _change(self, key: str, verb: str, change: Callable[[str], object]) -> None:
        name = self._name(key)
        try:
            for attempt in stamina.retry_context(
                on=_is_denied, attempts=_CHANGE_ATTEMPTS, timeout=1.0, wait_initial=0.05, wait_jitter=0.05
            ):
                with attempt:
                    change(name)
        except FAILURES as error:
            raise self._errors.translate(error, key, verb) from error

    @property
    def _deadline(self) -> float:
        """Return when a document must have arrived, by the monotonic clock."""
        return time.monotonic() + self._seconds

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _list(self, prefix: str, *, recursive: bool) -> list[Entry]:
        """List all objects, or with `recursive=False` the folders directly below, sorted. Folder markers of consoles are skipped."""
        start = self.prefix + check_prefix(prefix)
        try:
            found = [
                Entry(
                    str(one.object_name).removeprefix(self.prefix),
                    one.size or 0,
                    one.last_modified.timestamp() if one.last_modified else 0.0,
                )
                for one in self._clients.documents.list_objects(self.bucket, start, recursive=recursive)
                if one.is_dir is not recursive and one.object_name != start
            ]
        except FAILURES as error:
            raise self._errors.translate(error, prefix, "listed in") from error
        return sorted(found, key=lambda entry: entry.key)

    def _copy(self, key: str) -> Path:
        known = self._cache.mark(key)

        def fill(file: IO[bytes]) -> str:
            return self._get(self._clients.transfers, key, "", file) or ""

        if known and self._get(self._clients.transfers, key, known, None) is None:
            return self._cache.touch(key)
        return self._cache.store(key, fill)

    def _get(
        self,
        client: Minio,
        key: str,
        mark: str,
        into: IO[bytes] | None,
        deadline: float = float("inf"),
        most: float = float("inf"),
    ) -> str | None:
        """Write the object's bytes to `into`, if given, and return its ETag; None if that is `mark`."""
        name = self._name(key)
        headers: dict[str, str | list[str] | tuple[str]] = {"If-None-Match": f'"{mark}"'} if mark else {}
        try:
            for attempt in stamina.retry_context(
                on=_is_interrupted, attempts=_READ_ATTEMPTS, wait_initial=0.2, wait_jitter=0.1
            ):
                with attempt:
                    response = client.get_object(self.bucket, name, request_headers=headers)
                    try:
                        return _read_body(response, into, deadline, most)
                    finally:
                        response.close()
                        response.release_conn()
        except _BodyTooLarge as error:
            raise object_too_large(key, self.url, error.size) from error
        except FAILURES as error:
            if mark and _is_unchanged(error):
                return None
            raise self._errors.translate(error, key, "read from") from error
        raise AssertionError("stamina ends with the last error")  # pragma: no cover - it raises


class _BodyTooLarge(Exception):
    """The object has more bytes than are read."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _read_body(response: BaseHTTPResponse, into: IO[bytes] | None, deadline: float, most: float) -> str:
    """Write the whole body and return the ETag. Raises errors of urllib3, or _BodyTooLarge."""
    mark = response.headers.get("etag", "").strip('"')
    if into is None:
        return mark
    into.seek(0)
    into.truncate()
    if (size := int(response.headers.get("content-length", 0))) > most:
        raise _BodyTooLarge(size)
    while chunk := response.read1(_CHUNK):
        into.write(chunk)
        if into.tell() > most:
            raise _BodyTooLarge(into.tell())
        if time.monotonic() > deadline:
            raise ReadTimeoutError(None, None, "the body came too slowly")  # type: ignore[arg-type]  # no pool here
    promised = int(response.headers.get("content-length", into.tell()))
    if into.tell() != promised:
        raise IncompleteRead(into.tell(), promised - into.tell())
    return mark


def _is_interrupted(error: Exception) -> bool:
    """Return whether the body broke off; urllib3 has retried the request itself."""
    return isinstance(error, HTTPError) and not isinstance(error, MaxRetryError | ReadTimeoutError)


def _is_denied(error: Exception) -> bool:
    """Return whether access is denied: a single-disk MinIO also answers so while an object's folder is being removed."""
    return isinstance(error, S3Error) and error.code == "AccessDenied"


def _is_unchanged(error: Exception) -> bool:
    """Return whether it is status 304, which the client raises as an error."""
    return isinstance(error, ServerError | InvalidResponseError) and status_of(error) == 304


def _parse_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix; the prefix is empty or ends in "/". Raises BadConfig."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or "//" in prefix:
        raise BadConfig(f"{url!r} names no bucket: write s3://bucket/prefix/.")
    return parts.netloc, f"{prefix}/" if prefix else ""
