"""What checks know: the settings, where they run, the URL and the projects in question, and whom they may ask."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from services.cli.client import Adapters
from services.core.advice import is_address, problem_of
from services.core.labelstudio import LabelStudio
from services.core.settings import Settings
from services.core.store import ObjectStore, open_store
from services.core.store.counting import bare

if TYPE_CHECKING:
    from services.cluster.inspect import Inspector

__all__ = ["host_and_path", "is_address", "is_cluster_local", "is_private", "problem_of", "redact_url"]


def is_private(address: str) -> bool:
    """Whether Label Studio refuses it by default: no address of the public internet."""
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def is_cluster_local(url: str) -> bool:
    """Whether only pods know the host: a Service's name, whole or short."""
    host = urlsplit(url).hostname or ""
    return not is_address(host) and host != "localhost" and bool(_SERVICE.search(host) or "." not in host)


_SERVICE = re.compile(r"\.svc(\.|$)")


def host_and_path(url: str) -> tuple[str, str]:
    """Host with port, and path: what tells two backends apart."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.hostname}:{port}", parts.path.rstrip("/")


def redact_url(url: str, *secrets: str) -> str:
    """The URL without its credentials, its query and the secret path."""
    parts = urlsplit(url)
    path = parts.path
    for secret in filter(None, secrets):
        path = path.replace(f"/{secret}", "/<secret>")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


_SECONDS = 10.0


class Location(StrEnum):
    """Where the doctor runs."""

    POD = "pod"
    LAPTOP = "laptop"
    MACHINE = "machine"
    """Beside a `fitloop local`."""


@dataclass(frozen=True)
class Context:
    """Everything is asked for late, so that what is missing fails only the checks that need it."""

    settings: Settings
    location: Location
    url: str
    """The URL that Label Studio is, or will be, connected to; "" where it is not known."""
    projects: tuple[int, ...]
    adapters: Adapters
    inspector: Inspector | None = None
    events_seen: dict[int, bool] = field(default_factory=dict)
    """By project: whether its event came."""

    @cached_property
    def label_studio(self) -> LabelStudio:
        """The one that the settings name; whoever waits at a terminal waits less long than an adapter."""
        known = self.settings.label_studio
        return LabelStudio(known.model_copy(update={"timeout_seconds": min(known.timeout_seconds, _SECONDS)}))

    @cached_property
    def store(self) -> ObjectStore:
        """The one that the settings name. Raises BadConfig."""
        storage = self.settings.storage
        folder = storage.model_dir.expanduser().resolve()
        return bare(open_store(storage.store or folder.as_uri(), self.settings.s3, storage))

    def redact(self, url: str) -> str:
        """A URL as it may be printed."""
        return redact_url(url, self.settings.auth.secret_path)

    @property
    def login(self) -> tuple[str, str] | None:
        """Basic credentials of the adapter, where it asks for them."""
        auth = self.settings.auth
        password = auth.password.get_secret_value()
        return (auth.username, password) if password else None
