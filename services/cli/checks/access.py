"""Access to the URL: Label Studio and its webhooks are let in, and requests without credentials are refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from services.cli.checks import Check, Context, Finding, Location, fail, json_object, ok, warn
from services.cli.checks.reach import (
    CREDENTIALS_ADVICE,
    call,
    not_fitloop,
    probe_url,
    send,
)
from services.core.labelstudio.access import AUTH_ADVICE, is_ip_address

_SET_CREDENTIALS: Final = (
    "Set BASIC_AUTH_USER, BASIC_AUTH_PASS and FITLOOP_SECRET_PATH (the chart's auth.*), and make sure that no proxy adds a "
    "login to requests that have none."
)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A request that must be refused. `admitted` distinguishes Fitloop's answer from those of other servers at the same origin."""

    method: str
    path: str
    admitted: Callable[[httpx.Response], bool]
    login: tuple[str, str] | None = None
    below_url: bool = False
    """Below the URL's own path, which may be secret."""

    def __str__(self) -> str:
        """Name the route and the credentials, but never the secret path."""
        where = "<the URL's path>" if self.below_url else ""
        return f"{self.method} {where}{self.path} with{' a wrong password' if self.login else 'out a login'}"


def credentials(context: Context) -> Finding:
    """Check that Label Studio is let in, and its webhooks too."""

    def probe() -> Finding:
        bare = send(context, httpx.Request("GET", _without_credentials(context.url) + "/versions"))
        if bare.status_code not in {401, 403}:
            is_ours = "versions" in json_object(bare)
            return _admitted_without_login(context) if is_ours else not_fitloop(context, bare, "/versions")
        if call(context, "GET", "/versions", login=None).status_code not in {401, 403}:
            return ok("The credentials in the URL are accepted, for webhooks too.")
        if call(context, "GET", "/versions").status_code in {401, 403}:
            return fail(
                "Neither the credentials in the URL nor BASIC_AUTH_USER and BASIC_AUTH_PASS are accepted.",
                CREDENTIALS_ADVICE,
            )
        return fail(
            "A password is required, but Label Studio's webhooks send none: they would be refused.",
            AUTH_ADVICE,
        )

    return probe_url(context, probe)


def anonymous_access(context: Context) -> Finding:
    """Check that requests without credentials are refused. They change nothing: this /setup names no project."""

    def probe() -> Finding:
        answered = [str(one) for one in _probes(context) if _is_admitted(context, one)]
        if not answered:
            return ok("Pages, the API and /setup refuse requests without credentials.")
        return _exposed(context, f"Answered: {'; '.join(answered)}.")

    return probe_url(context, probe)


CREDENTIALS: Final = Check("credentials", credentials, 20.0, ("reach",))
ANONYMOUS_ACCESS: Final = Check("open doors", anonymous_access, 45.0, ("reach",))


def _admitted_without_login(context: Context) -> Finding:
    secret = context.settings.auth.secret_path
    if secret and f"/{secret}" in urlsplit(context.url).path:
        return ok("The secret path in the URL admits Label Studio and its webhooks without a password.")
    return ok("Label Studio needs no credentials at this URL.")


def _exposed(context: Context, answered: str) -> Finding:
    auth = context.settings.auth
    risk = "Anyone who can reach this address can train and promote models"
    if auth.anonymous and not auth.has_credentials:
        return warn(f"{risk}, as FITLOOP_ANONYMOUS=true allows. {answered}", _SET_CREDENTIALS)
    if not auth.has_credentials and _is_this_machine(context):
        return warn(
            f"Anyone who uses this machine can train and promote models. {answered}", _SET_CREDENTIALS
        )
    return fail(f"{risk} without a login. {answered}", _SET_CREDENTIALS)


def _is_this_machine(context: Context) -> bool:
    host = urlsplit(context.url).hostname or ""
    is_loopback = host in {"localhost", "::1"} or (is_ip_address(host) and host.startswith("127."))
    return context.location is Location.MACHINE and is_loopback


def _probes(context: Context) -> list[_Probe]:
    wrong = (context.settings.auth.username or "fitloop", secrets.token_urlsafe())
    probes = [
        _Probe("GET", "/api/projects", _lists_projects),
        _Probe("GET", "/", _is_page),
        _Probe("POST", "/setup", _is_setup),
        _Probe("GET", "/api/projects", _lists_projects, login=wrong),
    ]
    if urlsplit(context.url).path.rstrip("/") != _prefix(context):
        probes += [
            _Probe("GET", "/api/projects", _lists_projects, below_url=True),
            _Probe("GET", "/", _is_page, below_url=True),
        ]
    return probes


def _is_admitted(context: Context, probe: _Probe) -> bool:
    url = _without_credentials(context.url)
    parts = urlsplit(url)
    base = url if probe.below_url else f"{parts.scheme}://{parts.netloc}{_prefix(context)}"
    body: dict[str, str] | None = {} if probe.method == "POST" else None
    request = httpx.Request(probe.method, base + probe.path, json=body)
    return probe.admitted(send(context, request, probe.login))


def _without_credentials(url: str) -> str:
    """Return the URL without credentials and without a slash at its end."""
    parts = urlsplit(url.rstrip("/"))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _prefix(context: Context) -> str:
    """Return the path that the ingress strips, if the URL has it."""
    prefix = context.settings.auth.path_prefix.rstrip("/")
    return prefix if f"{urlsplit(context.url).path}/".startswith(f"{prefix}/") else ""


def _lists_projects(answer: httpx.Response) -> bool:
    """Accept a 503 too: an adapter that is still reading its state answers so after the login."""
    is_starting = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Fitloop" in str(
        json_object(answer).get("detail")
    )
    return is_starting or (answer.is_success and "projects" in json_object(answer))


def _is_page(answer: httpx.Response) -> bool:
    """Expect JSON, because the request does not accept HTML."""
    return answer.is_success and json_object(answer).get("model_class") == "Fitloop"


def _is_setup(answer: httpx.Response) -> bool:
    """Accept a 400 too: the answer after the login, since the body names no project."""
    is_ours = answer.status_code == httpx.codes.BAD_REQUEST and "detail" in json_object(answer)
    return is_ours or (answer.is_success and "model_version" in json_object(answer))
