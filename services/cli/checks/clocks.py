"""Clocks: of the storage (which refuses requests beyond 15 minutes), of Label Studio (tokens), and of the cluster."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from services.cli.checks import label_studio, storage
from services.cli.checks.context import Context
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.core.faults import brief_of
from services.core.labelstudio.wire import CA_FILE
from services.core.tls import trusting

_FINE: Final = 3.0
"""A `Date` is in whole seconds, and it takes a moment to come."""
_MUCH: Final = 60.0
_ADVICE: Final = "Set the clocks by NTP (chrony, or the hypervisor's), on the machines of both."


def clock_offset(date: str, whose: str, now: float) -> Finding:
    """How far a `Date` header is from now. Pure."""
    try:
        seconds = parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError):
        return skipped(f"{whose} does not say what time it is.")
    if abs(seconds) <= _FINE:
        return ok(f"The clock of {whose} and the one here agree.")
    sentence = f"The clock of {whose} is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}."
    return warn(sentence, _ADVICE) if abs(seconds) <= _MUCH else fail(sentence, _ADVICE)


def storage_clock(context: Context) -> Finding:
    """Signatures of requests hold the time."""
    if why := storage.reason_to_skip(context):
        return why
    if not context.store.url.startswith("s3://"):
        return skipped("A folder has no clock of its own.")
    s3 = context.settings.s3
    return _asked(s3.endpoint, "the storage", lambda: trusting(s3.ca_file, "FITLOOP_S3_CA_FILE"))


def label_studio_clock(context: Context) -> Finding:
    """Tokens expire, and the newest change of a label is a time of Label Studio's."""
    if why := label_studio.reason_to_skip(context):
        return why
    known = context.settings.label_studio
    return _asked(f"{known.url}/health", "Label Studio", lambda: trusting(known.ca_file, CA_FILE))


def kubernetes_clock(context: Context) -> Finding:
    """The adapters of all nodes change to a new version at one moment."""
    assert context.inspector is not None  # noqa: S101  # for the type checker: asked on a cluster alone
    _, date = context.inspector.version()
    return clock_offset(date, "the Kubernetes API", time.time())


CLOCK_CHECKS: Final = (
    Check("clock: storage", storage_clock),
    Check("clock: label studio", label_studio_clock),
)


def _asked(url: str, whose: str, trust: Callable[[], ssl.SSLContext]) -> Finding:
    try:
        answer = httpx.head(
            url, timeout=5.0, verify=trust() if url.startswith("https:") else False
        )  # no TLS there
    except (httpx.HTTPError, OSError) as error:
        return skipped(
            f"{whose[0].upper()}{whose[1:]} does not answer ({brief_of(error)}).",
            "See the checks above.",
        )
    return clock_offset(answer.headers.get("date", ""), whose, time.time())
