"""What checks know: the settings, where they run, the URL and the projects in question, and whom they may ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from services.cli.checks.adapters import Adapters
from services.cli.checks.address import redact_url
from services.core.labelstudio import LabelStudio
from services.core.settings import Settings
from services.core.store import ObjectStore, open_store
from services.core.store.counting import bare

if TYPE_CHECKING:  # `fitloop local` needs no client of Kubernetes
    from services.cluster.inspect import Inspector

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
