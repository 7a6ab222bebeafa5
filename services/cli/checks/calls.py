"""Requests of the doctor to the URL: over new connections, without following redirects, and what it means if none comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from services.cli.checks.context import Context, Location, is_cluster_local, problem_of
from services.cli.checks.finding import Finding, fail, skipped
from services.cli.checks.label_studio import label_studio_reaches_url, pod_command
from services.core.faults import brief_of

TIMEOUT_SECONDS: Final = 5.0
"""More than both, so that it can be said how long it took."""
SLOW_ADVICE: Final = (
    "Give the adapter more CPU (adapter.resources), and look for what is slow between Label Studio and it."
)
LAPTOP_ADVICE: Final = "From a laptop that reaches it: fitloop doctor --url <URL>."


class Unreachable(Exception):
    """Nothing answers; the finding says what follows from that."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence)
        self.finding = finding


def probe_url(context: Context, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; where the URL cannot be called, or does not answer, what follows from that."""
    if not context.url or problem_of(context.url).startswith(("it cannot", "it must")):
        return skipped("There is no URL to call.", "See the check of the URL.")
    if context.location is Location.LAPTOP and is_cluster_local(context.url):
        return skipped("The URL's host is a name within the cluster.", pod_command(context))
    try:
        return look()
    except Unreachable as error:
        return error.finding


def call(
    context: Context,
    method: str,
    path: str,
    login: Any = ...,
    seconds: float = TIMEOUT_SECONDS,
    **options: Any,
) -> httpx.Response:
    """One request over a new connection, with the URL's credentials, else ours unless `login` says otherwise."""
    url = context.url.rstrip("/")
    own = urlsplit(url).username is None and login is ...
    return send(
        context, httpx.Request(method, url + path, **options), context.login if own else None, seconds
    )


def send(
    context: Context,
    request: httpx.Request,
    login: tuple[str, str] | None = None,
    seconds: float = TIMEOUT_SECONDS,
) -> httpx.Response:
    """The answer, within the time. Raises Unreached."""
    client = httpx.Client(
        timeout=httpx.Timeout(seconds, connect=3.05), follow_redirects=False, trust_env=False
    )
    with client:
        try:
            return client.send(request, auth=login or httpx.USE_CLIENT_DEFAULT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(_why(context, request, error)) from error


def _why(context: Context, request: httpx.Request, error: Exception) -> Finding:
    url, path = context.redact(context.url), request.url.path
    if label_studio_reaches_url(context):
        return skipped(
            f"{url} cannot be reached from here, and Label Studio reaches it: that is what counts.",
            LAPTOP_ADVICE,
        )
    if isinstance(error, httpx.ReadTimeout):
        return fail(
            f"{url} takes a connection, and does not answer {path.rpartition('/')[2]} in time.", SLOW_ADVICE
        )
    if "CERTIFICATE" in str(error).upper():
        return fail(
            f"The certificate of {url} is not trusted here.",
            "Where Label Studio runs it must be: REQUESTS_CA_BUNDLE in its environment names the authority's certificate.",
        )
    advice = "Call it from where Label Studio runs. Is the host right, the ingress there, a firewall or NetworkPolicy between?"
    sentence = f"{url} cannot be reached from here ({brief_of(error)})."
    if context.location is Location.POD:
        return skipped(
            f"{sentence} A pod may not reach its own ingress: what Label Studio says of the backend is what counts.",
            LAPTOP_ADVICE,
        )
    return fail(sentence, advice)


def without_credentials(url: str) -> str:
    """The URL without the credentials before its host, and without a slash at its end."""
    parts = urlsplit(url.rstrip("/"))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def json_object(answer: httpx.Response) -> dict[str, Any]:
    """The object in the answer; empty where there is none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
