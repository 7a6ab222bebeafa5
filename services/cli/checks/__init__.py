"""The checks of `fitloop doctor`: what they know (Context), what they return (Finding), and how they run.

Each module holds the checks of one subject, as functions from a Context to a Finding.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from services.cli.client import Adapters
from services.core.errors import FitloopError
from services.core.labelstudio import LabelStudio
from services.core.labelstudio.access import is_ip_address
from services.core.settings import Settings
from services.core.store import ObjectStore, open_store
from services.core.store.wrapped import unwrap

if TYPE_CHECKING:  # `fitloop local` works without the Kubernetes client
    from services.cluster.inspect import Inspector

_LABEL_STUDIO_SECONDS: Final = 10.0
"""A person waits at a terminal, so less than an adapter's own limit."""
_SERVICE: Final = re.compile(r"\.svc(\.|$)")


class Location(StrEnum):
    """Where the doctor runs."""

    POD = "pod"
    LAPTOP = "laptop"
    MACHINE = "machine"
    """Next to `fitloop local`."""


@dataclass(frozen=True)
class Context:
    """What checks work on. Clients are created on first use, so that a missing one fails only the checks that need it."""

    settings: Settings
    location: Location
    url: str
    """The URL pasted into Label Studio, now or later; "" if unknown."""
    projects: tuple[int, ...]
    adapters: Adapters
    inspector: Inspector | None = None
    """Set only on a cluster."""
    events_seen: dict[int, bool] = field(default_factory=dict)
    """By project: whether its test event arrived."""

    @cached_property
    def label_studio(self) -> LabelStudio:
        known = self.settings.label_studio
        seconds = min(known.timeout_seconds, _LABEL_STUDIO_SECONDS)
        return LabelStudio(known.model_copy(update={"timeout_seconds": seconds}))

    @cached_property
    def store(self) -> ObjectStore:
        """Open the configured store. Raises BadConfig."""
        storage = self.settings.storage
        folder = storage.model_dir.expanduser().resolve()
        return unwrap(open_store(storage.store or folder.as_uri(), self.settings.s3, storage))

    @property
    def kubernetes(self) -> Inspector:
        assert self.inspector is not None  # noqa: S101  # for the type checker: only cluster checks use it
        return self.inspector

    @property
    def login(self) -> tuple[str, str] | None:
        """Return the adapter's Basic credentials, or None if it has no password."""
        return login_of(self.settings)

    def redact(self, url: str) -> str:
        """Return a URL that is safe to print."""
        return redact_url(url, self.settings.auth.secret_path)


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of output: what is the case, and what to do about it."""

    verdict: Verdict
    message: str
    advice: str = ""
    name: str = ""
    """The check's name, set by `run_check`."""


@dataclass(frozen=True, slots=True)
class Check:
    """A named check. An exception fails this check alone."""

    name: str
    run: Callable[[Context], Finding]
    timeout_seconds: float = 15.0
    needs: tuple[str, ...] = ()
    """Earlier checks without which this one is skipped, so that one cause makes one failure."""


def ok(message: str) -> Finding:
    return Finding(Verdict.OK, message)


def warn(message: str, advice: str) -> Finding:
    """It works, or may work, but could be better."""
    return Finding(Verdict.WARN, message, advice)


def fail(message: str, advice: str = "") -> Finding:
    return Finding(Verdict.FAIL, message, advice)


def skipped(reason: str, advice: str = "") -> Finding:
    """It cannot be checked from here."""
    return Finding(Verdict.SKIPPED, reason, advice)


def run_checks(groups: Sequence[Sequence[Check]], context: Context) -> Iterator[Finding]:
    """Run the groups in parallel and the checks of a group in order. Yield findings in the order of the checks."""
    with ThreadPoolExecutor(len(groups)) as pool:
        for findings in pool.map(lambda group: _run_group(group, context), groups):
            yield from findings


def _run_group(group: Sequence[Check], context: Context) -> list[Finding]:
    findings: dict[str, Finding] = {}
    for check in group:
        needed = (findings[name] for name in check.needs if name in findings)
        missing = next((one for one in needed if one.verdict in {Verdict.FAIL, Verdict.SKIPPED}), None)
        if missing is None:
            findings[check.name] = run_check(check, context)
        else:
            ended = "failed" if missing.verdict is Verdict.FAIL else "was skipped"
            reason = f"The check {missing.name!r} {ended}."
            findings[check.name] = Finding(Verdict.SKIPPED, reason, name=check.name)
    return list(findings.values())


def run_check(check: Check, context: Context) -> Finding:
    """Run one check. A check that exceeds its time is abandoned: its daemon thread ends with the process."""
    answers: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_safely(check, context)), daemon=True).start()
    try:
        finding = answers.get(timeout=check.timeout_seconds)
    except queue.Empty:
        finding = fail(
            f"No answer within {check.timeout_seconds:g} s.",
            "Check whether the service it queries is overloaded, or a firewall drops the connection.",
        )
    return replace(finding, name=check.name)


def _safely(check: Check, context: Context) -> Finding:
    try:
        return check.run(context)
    except FitloopError as error:
        return fail(str(error))
    except Exception as error:  # noqa: BLE001  # a bug in one check must not hide other findings; its text may hold secrets
        return fail(
            f"The check itself failed with an unexpected error ({type(error).__name__}).",
            "This is a bug: please report it.",
        )


def login_of(settings: Settings) -> tuple[str, str] | None:
    """Return the adapter's Basic credentials, or None if it has no password."""
    password = settings.auth.password.get_secret_value()
    return (settings.auth.username, password) if password else None


def is_private(address: str) -> bool:
    """Return whether the address is not on the public internet; Label Studio refuses such addresses by default."""
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def is_cluster_local(url: str) -> bool:
    """Return whether only pods can resolve the host: the short or full name of a Service."""
    host = urlsplit(url).hostname or ""
    return not is_ip_address(host) and host != "localhost" and bool(_SERVICE.search(host) or "." not in host)


def host_and_path(url: str) -> tuple[str, str]:
    """Return host with port, and path: what distinguishes two backends."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.hostname}:{port}", parts.path.rstrip("/")


def redact_url(url: str, *secrets: str) -> str:
    """Return the URL without its credentials, its query and the secret path."""
    parts = urlsplit(url)
    path = parts.path
    for secret in filter(None, secrets):
        path = path.replace(f"/{secret}", "/<secret>")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def json_object(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object in the answer, or {} if there is none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
