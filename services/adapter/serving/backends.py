"""A project's ML backends in Label Studio: which one we are, and the title that names the version it serves.

Community edition's uncertainty sampling and "Prediction score" column work only while the title equals the predictions'
version. Changing it makes Label Studio call our /setup before it answers, so this belongs in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from services.core.labelstudio import Backend
from services.core.settings import AuthSettings


class Titles(Protocol):
    """The part of LabelStudio that this needs."""

    def backends(self, project_id: int) -> list[Backend]:
        """The project's ML backends."""
        ...

    def set_backend_title(self, project_id: int, backend: Backend, title: str, auth: dict[str, str]) -> None:
        """Rename one."""
        ...


def rename(source: Titles, auth: AuthSettings, project_id: int, seen_url: str, title: str) -> bool:
    """Give our backend of the project that title, where it has another; whether it had. Raises LabelStudioError."""
    backend = ours(source.backends(project_id), seen_url)
    if backend is None or backend.title == title:
        return False
    source.set_backend_title(project_id, backend, title, _credentials(auth, backend))
    return True


def ours(backends: Sequence[Backend], seen_url: str) -> Backend | None:
    """Which backend we are: the one whose URL Label Studio used, never a guess, for our password may be sent there."""
    same = [backend for backend in backends if seen_url and _place(backend.url) == _place(seen_url)]
    return same[0] if same else None


def _place(url: str) -> tuple[str, str]:
    """Host with port, and path: what tells backends apart; credentials and a final slash do not."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.hostname}:{port}", parts.path.rstrip("/")


def _credentials(auth: AuthSettings, backend: Backend) -> dict[str, str]:
    """Basic credentials must be said again with every change, where the backend has them."""
    if not backend.basic_auth_user:
        return {}
    return {
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": auth.username,
        "basic_auth_pass": auth.password.get_secret_value(),
    }
