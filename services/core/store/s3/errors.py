"""Failures of an S3 storage as our errors, each with a message that says what to do.

StoreRefused: a person must change a setting, a key or a permission. StoreUnreachable: it may be transient. NotFound: no such
object. No message contains a key, a header or an answer's body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import exceptions as http

from services.core.errors import NotFound, StoreError, StoreRefused, StoreUnreachable
from services.core.http.faults import Fault, Server, describe_fault, find_fault
from services.core.redaction import safe_reason
from services.core.settings.deployment import S3Settings

FAILURES = (MinioException, http.HTTPError, ParseError, ValueError, OSError)
"""Exceptions of the client."""
_BUSY = frozenset(
    [
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        "TooManyRequests",
    ]
)
_FULL = frozenset(["XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge"])
_NO_BUCKET = "there is no bucket {bucket!r} at {at}. Create it, or correct the name in the s3:// address."
_EXPIRED = "the temporary keys have expired. Get new ones, or use permanent keys."
_REGION = "the bucket is in another region. Set FITLOOP_S3_REGION to the bucket's region."
_DENIED = (
    "the access key lacks a permission. Allow it s3:ListBucket on the bucket {bucket!r} and s3:GetObject below {url}/, "
    "s3:PutObject and s3:DeleteObject for writers, and s3:GetBucketLocation unless FITLOOP_S3_REGION is set."
)
_REASONS = {
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": _NO_BUCKET,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AccountProblem": _DENIED,
    "InvalidAccessKeyId": "{at} does not know the access key. Correct AWS_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "the secret does not match the access key. Correct AWS_SECRET_ACCESS_KEY.",
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "InvalidTokenId": _EXPIRED,
    "RequestTimeTooSkewed": "the clock here and that of {at} differ too much. Synchronise them (NTP).",
    "AuthorizationHeaderMalformed": _REGION,
    "InvalidRegion": _REGION,
    "PermanentRedirect": _REGION,
    "Redirect": _REGION,
}
"""By S3's error code."""


@dataclass(frozen=True, slots=True)
class S3Errors:
    """Translate errors of requests to one store."""

    url: str
    bucket: str
    settings: S3Settings

    def translate(self, error: Exception, key: str, verb: str) -> StoreError:
        """Return our error for a client's `error` on `key`; `verb` as in "cannot be <read from> s3://…"."""
        failed = f"{key!r} cannot be {verb} {self.url}"
        match error:
            case StoreError():
                found = error
            case S3Error():
                found = self._from_s3(error, key, failed)
            case InvalidResponseError() | ServerError():
                found = self._from_response(error, failed)
            case http.HTTPError():
                found = self._from_transport(error, failed)
            case ParseError():
                found = self._not_s3()
            case OSError():  # of a local file
                found = StoreError(f"{failed}: {safe_reason(error)}.")
            case _:  # its text may be a whole header, signature and all
                found = StoreRefused(
                    f"{failed}: the client does not accept the key, the bucket's name or the access keys. Check {self.url}, "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                )
        return found

    def _from_s3(self, error: S3Error, key: str, failed: str) -> StoreError:
        code, status = error.code or "", error.response.status
        if code == "NoSuchKey":
            return NotFound(f"{self.url} has no object {key!r}.")
        if status == 429 or code in _BUSY or (status >= 500 and code not in _FULL):
            return StoreUnreachable(
                f"{failed}: the storage is busy or starting ({code or status}); it may recover by itself."
            )
        if code in _FULL:
            return StoreError(f"{failed}: the storage or its quota is full ({code}): free some space.")
        why = _REASONS.get(code, f"{{at}} answered {code or status}. See the storage's own log.")
        return StoreRefused(f"{failed}: {why.format(at=self._at, bucket=self.bucket, url=self.url)}")

    def _from_response(self, error: InvalidResponseError | ServerError, failed: str) -> StoreError:
        status = status_of(error)
        if status == 429 or status >= 500:
            return StoreUnreachable(
                f"{failed}: {self._at} is busy or starting (status {status}); it may recover by itself."
            )
        if status == 400 and "HTTPS" in str(error):
            return StoreRefused(
                f"{self._at} speaks TLS. Use https:// in FITLOOP_S3_ENDPOINT, and set FITLOOP_S3_CA_FILE to its CA's "
                "certificate if that is not a public one."
            )
        if 300 <= status < 400:
            return StoreRefused(
                f"{self._at} redirects requests. Set FITLOOP_S3_ENDPOINT to the target's address, with https://."
            )
        return self._not_s3()

    def _from_transport(self, error: http.HTTPError, failed: str) -> StoreError:
        fault = find_fault(error)
        plain = self._at.startswith("http:")
        message = describe_fault(
            error,
            Server(f"the object storage at {self._at}", "FITLOOP_S3_ENDPOINT", "FITLOOP_S3_CA_FILE"),
            plain=plain,
        )
        if fault.is_tls:
            return StoreRefused(message)
        if fault is Fault.READ_TIMEOUT:
            message = (
                f"The object storage at {self._at} did not answer in time ({self.settings.timeout_seconds:g} s for a document): check whether "
                "it is overloaded."
            )
        return StoreUnreachable(f"{failed}. {message}")

    def _not_s3(self) -> StoreError:
        return StoreRefused(f"The server at {self._at} is not an S3 storage. Correct FITLOOP_S3_ENDPOINT.")

    @property
    def _at(self) -> str:
        return self.settings.endpoint


def status_of(error: InvalidResponseError | ServerError) -> int:
    """Return the HTTP status, which the client gives in its text alone; 0 if it gives none."""
    found = re.search(r"code:? (\d+)", str(error))
    return int(found[1]) if found else 0
