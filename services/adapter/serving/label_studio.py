"""What a refresh is to write into Label Studio, how far it is, and the title of our ML backend.

Community edition's uncertainty sampling and "Prediction score" column work only while the title equals the predictions'
version. Changing it makes Label Studio call our /setup before it answers, so this belongs in a thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from services.core.domain import LabelSpace
from services.core.labelstudio import Backend
from services.core.settings import AuthSettings


class BackendSource(Protocol):
    """The part of LabelStudio that is about ML backends."""

    def backends(self, project_id: int) -> list[Backend]:
        """Return the project's ML backends."""
        ...

    def set_backend_title(self, project_id: int, backend: Backend, title: str, auth: dict[str, str]) -> None:
        """Set the title of one."""
        ...


@dataclass(frozen=True, slots=True)
class TitleResult:
    """The result of `set_title`."""

    changed: bool = False
    """Whether the backend had another title."""
    problem: str = ""
    """Why no title was set, and what to do; "" if one was."""


def set_title(
    source: BackendSource, auth: AuthSettings, project_id: int, seen_url: str, title: str
) -> TitleResult:
    """Set the title of our backend, if it is another. Raises LabelStudioError."""
    backends = source.backends(project_id)
    backend = find_own_backend(backends, seen_url, auth.secret_path)
    if backend is None:
        return TitleResult(problem=_no_own_backend(backends, seen_url))
    if backend.title == title:
        return TitleResult()
    source.set_backend_title(project_id, backend, title, _credentials(backend))
    return TitleResult(changed=True)


def find_own_backend(backends: Sequence[Backend], seen_url: str, secret_path: str = "") -> Backend | None:
    """Return our backend: the one at the URL by which Label Studio called us, else the only one at its host.

    `seen_url` lacks the secret path, a path prefix that an ingress strips, and https if an ingress terminates it.
    """
    if not seen_url:
        return None
    keys: tuple[Callable[[str, str], object], ...] = (_scheme_host_path, _host_and_path, _host)
    for key in keys:
        same = [backend for backend in backends if key(backend.url, secret_path) == key(seen_url, "")]
        if same and (key is not _host or len(same) == 1):
            return same[0]
    return None


def _scheme_host_path(url: str, secret_path: str) -> tuple[str, str, str]:
    """Return scheme, host, port and path: credentials do not distinguish backends."""
    return (urlsplit(url).scheme, *_host_and_path(url, secret_path))


def _host_and_path(url: str, secret_path: str) -> tuple[str, str]:
    """Return host with port, and the path without a trailing slash and the secret path."""
    path = urlsplit(url).path.rstrip("/")
    before, _, last = path.rpartition("/")
    is_secret = secrets.compare_digest(last.encode(), secret_path.encode())
    return _host(url, secret_path), before.rstrip("/") if secret_path and is_secret else path


def _host(url: str, _: str) -> str:
    """Return host and port; the default ports of http and https are one, because an ingress may terminate TLS."""
    parts = urlsplit(url)
    try:
        port = "" if parts.port in {None, 80, 443} else f":{parts.port}"
    except ValueError:  # not a number
        port = ":?"
    return f"{parts.hostname}{port}"


def _no_own_backend(backends: Sequence[Backend], seen_url: str) -> str:
    if not backends or not seen_url:
        return ""
    theirs = ", ".join(sorted({_host(backend.url, "") for backend in backends})[:3])
    return (
        f"None of the project's backends in Label Studio (at {theirs}) has the address by which Label Studio called Fitloop "
        f"({_host(seen_url, '')}), so no title was set, and uncertainty sampling does not work: connect Fitloop's own "
        "address (Settings > Model)."
    )


def _credentials(backend: Backend) -> dict[str, str]:
    """Return the backend's credentials, which each change must repeat; for an empty password Label Studio keeps its own.

    So our password is never sent: anyone who may edit a project may give its backend any URL.
    """
    user = backend.basic_auth_user
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": ""} if user else {}


@dataclass(frozen=True, slots=True)
class RefreshJob:
    """A version's predictions and title to be written to Label Studio."""

    project_id: int
    project_key: str
    version: str
    space: LabelSpace | None
    """None only for a version of a class, which answers any label config."""
    seen_url: str
    round: int = 0
    """Increased each time the same version is to be refreshed again: new tasks, another backend."""
    title_only: bool = False
    """The predictions are stored: only the backend may be another one."""
    own_model_config: str = ""
    """The project's label config if a class of the operator's computes the version's answers; else ""."""


@dataclass(frozen=True, slots=True)
class RefreshProgress:
    """How far a job is."""

    job: RefreshJob
    pushed: int = 0
    """Tasks that have a prediction of the version, as far as known."""
    total: int | None = None
    """Tasks that are to have one; None until they are counted."""
    refused: int = 0
    """Predictions that Label Studio refuses."""
    done: bool = False
    problem: str = ""


def progress_message(progress: RefreshProgress | None) -> str:
    """Return the progress for people; "" if there is none to report."""
    if progress is None or progress.done or progress.total is None:
        return ""
    return (
        f"refreshing suggestions in Label Studio: {min(progress.pushed, progress.total)} of {progress.total}"
    )


def refused_message(job: RefreshJob, count: int) -> str:
    """Return what to tell people about refused predictions; "" for none."""
    if not count:
        return ""
    these = "1 suggestion" if count == 1 else f"{count} suggestions"
    control = f" for {job.space.from_name!r}" if job.space and not job.own_model_config else ""
    return (
        f"Label Studio refuses {these} of {job.version}{control}: annotators get them only when "
        "Label Studio itself requests predictions. Its log says why."
    )


def unusable_message(job: RefreshJob, reason: str) -> str:
    """Return what to tell people about stored predictions that cannot be used; "" without a reason."""
    if not reason:
        return ""
    return f"The suggestions that the run of {job.version} stored cannot be used, so predictors computed them: {reason}"
