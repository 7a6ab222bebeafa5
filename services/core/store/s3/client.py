"""The `minio` client of S3Store: endpoint, certificates, keys, timeouts and retries from the settings.

Two clients share the keys: `documents`, for documents and listings, whose every request ends within seconds, and `transfers`
for files, where only a stall is an error. `Retry-After` is ignored: MinIO asks for two minutes.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import IamAwsProvider, Provider, StaticProvider
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from services.core.errors import BadConfig, StoreRefused, StoreUnreachable
from services.core.http.faults import client_ssl_context
from services.core.redaction import safe_reason
from services.core.settings.deployment import S3Settings
from services.core.settings.group import Inside, trim, value_problem

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_STALL_SECONDS = 60.0
"""For a part of a large file: the storage writes it to its disks before it answers."""
_BUSY = frozenset({429, 500, 502, 503, 504})
_CONNECTIONS = 16
"""Pooled; more threads open their own."""
_IDENTITY = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
_NO_KEYS = (
    "There are no keys for the object storage: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or mount a Secret with "
    "files of these names and set FITLOOP_S3_CREDENTIALS_DIR to its folder."
)


@dataclass(frozen=True, slots=True)
class Clients:
    """Both clients of one storage."""

    documents: Minio
    transfers: Minio


def connect(settings: S3Settings) -> Clients:
    """Return clients that have made no request yet. Raises BadConfig."""
    # Its warnings about retries contain the whole URL, which has a token when keys come from a pod's identity.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    provider, context = provider_of(settings), client_ssl_context(settings.ca_file, "FITLOOP_S3_CA_FILE")
    seconds = settings.timeout_seconds
    # No attempt starts after half the time, and each connects within a quarter: in total less than twice the time.
    quick = _Pool(
        _retry(3, 1, 0.1, within=seconds / 2),
        timeout=Timeout(connect=seconds / 4, read=seconds),
        maxsize=_CONNECTIONS,
        ssl_context=context,
    )
    patient = _Pool(
        _retry(5, 2, 0.5, within=float("inf")),
        timeout=Timeout(connect=seconds, read=_STALL_SECONDS),
        maxsize=_CONNECTIONS,
        ssl_context=context,
    )
    return Clients(_client(settings, provider, quick), _client(settings, provider, patient))


def provider_of(settings: S3Settings) -> Provider:
    """Choose the source of keys: the environment, a mounted folder, or the pod's identity. Raises BadConfig."""
    key, secret = settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
    if bool(key) != bool(secret):
        raise BadConfig("Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set: set both.")
    if key:
        return StaticProvider(key, secret, settings.session_token.get_secret_value() or None)
    if settings.credentials_dir:
        return FolderProvider(settings.credentials_dir)
    is_aws = (urlsplit(settings.endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
    if is_aws or any(os.environ.get(name) for name in _IDENTITY):
        return IdentityProvider(settings.region)
    raise BadConfig(_NO_KEYS)


class FolderProvider(Provider):
    """Keys in the files of a mounted Secret, read for each request: a changed Secret takes effect at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def retrieve(self) -> Credentials:
        """Return the current keys. Raises StoreRefused."""
        # Kubernetes swaps the link ..data, so both files are from the same moment.
        data = self._folder / "..data"
        folder = data.resolve() if data.exists() else self._folder
        try:
            key, secret = (
                _read_key(folder / name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            )
        except (OSError, UnicodeDecodeError) as error:
            raise StoreRefused(
                f"The keys of the object storage cannot be read from {self._folder} (FITLOOP_S3_CREDENTIALS_DIR): mount "
                "a Secret there with the files AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error
        if not key or not secret:
            raise StoreRefused(
                f"A file with a key of the object storage is empty in {self._folder}: fill the Secret."
            )
        token = folder / "AWS_SESSION_TOKEN"
        return Credentials(key, secret, _read_key(token) if token.is_file() else None)


class IdentityProvider(Provider):
    """Keys from the cloud, or MinIO's STS, for the pod's service account."""

    def __init__(self, region: str) -> None:
        """AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN and the like are read as AWS's own clients read them."""
        token_file = os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
        pool = urllib3.PoolManager(
            timeout=Timeout(connect=2.0, read=5.0), retries=Retry(2, backoff_factor=0.2)
        )
        self._given = IamAwsProvider(
            custom_endpoint=os.environ.get("AWS_ENDPOINT_URL_STS") if token_file else None,
            http_client=pool,
            region=region or None,
        )

    def retrieve(self) -> Credentials:
        """Return the current keys, cached until they expire. Raises StoreRefused, StoreUnreachable."""
        try:
            return self._given.retrieve()
        except HTTPError:
            raise StoreUnreachable(
                f"The service that gives this pod its keys does not answer. Without one: {_NO_KEYS}"
            ) from None  # its text holds the token, and so does the next one's
        except (ValueError, KeyError, OSError):
            raise StoreRefused(
                "This pod's identity gives it no keys for the object storage: check its ServiceAccount's role, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from None


class _Retry(Retry):
    """Retries that start within `max_seconds` of the first attempt, which bounds the time of a write."""

    def __init__(self, *, within: float, until: float = 0.0, **options: Any) -> None:
        """`deadline` by the monotonic clock; `options` are urllib3's."""
        self.max_seconds, self.deadline = within, until
        super().__init__(**options)

    def new(self, **changes: Any) -> Self:
        """Copy with our own fields, which the base class does not know."""
        return super().new(**({"within": self.max_seconds, "until": self.deadline} | changes))

    def increment(self, *failure: Any, **details: Any) -> Self:
        """Return the remaining retries. Raises MaxRetryError if none, or no time, is left."""
        left = self if time.monotonic() < self.deadline else self.new(total=0)
        return Retry.increment(left, *failure, **details)


def _retry(tries: int, reads: int, pause: float, within: float) -> _Retry:
    """Allow `tries` retries for connections and busy answers, `reads` for answers that broke off or were too slow."""
    return _Retry(
        within=within,
        total=tries,
        read=reads,
        redirect=0,
        status_forcelist=_BUSY,
        backoff_factor=pause,
        backoff_jitter=pause / 2,
        raise_on_redirect=False,  # the answer itself says more than "too many"
        raise_on_status=False,
        respect_retry_after_header=False,
    )


class _Pool(urllib3.PoolManager):
    """Connections whose every request has its own deadline for retries."""

    def __init__(self, retry: _Retry, **options: Any) -> None:
        """`options` are urllib3's."""
        self._retry = retry
        super().__init__(**options)

    def urlopen(  # type: ignore[override]  # as PoolManager overrides its own base
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> BaseHTTPResponse:
        options.setdefault("retries", self._retry.new(until=time.monotonic() + self._retry.max_seconds))
        return super().urlopen(method, url, redirect, **options)


def _read_key(path: Path) -> str:
    """Return the key in a file. Raises OSError, UnicodeDecodeError, and StoreRefused if its content is invalid."""
    text = trim(path.read_text(encoding="utf-8"), Inside.TOKEN)
    if problem := value_problem(text, Inside.TOKEN):
        raise StoreRefused(f"The file {path.name} in {path.parent} (FITLOOP_S3_CREDENTIALS_DIR): {problem}.")
    return text


def _client(settings: S3Settings, provider: Provider, pool: urllib3.PoolManager) -> Minio:
    parts = urlsplit(settings.endpoint)
    try:
        client = Minio(
            endpoint=parts.netloc,
            secure=parts.scheme == "https",
            region=settings.region or None,
            credentials=provider,
            http_client=pool,
        )
    except ValueError as error:
        raise BadConfig(
            f"FITLOOP_S3_ENDPOINT {settings.endpoint!r} is not an address that the client accepts: {safe_reason(error)}."
        ) from error
    if settings.addressing == "path":
        client.disable_virtual_style_endpoint()
    if settings.addressing == "host":
        client.enable_virtual_style_endpoint()
    return client
