"""Label Studio: it answers, accepts our token, and has our URL as a project's ML backend."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

import httpx

from services.cli.checks import (
    Check,
    Context,
    Finding,
    Location,
    fail,
    host_and_path,
    is_cluster_local,
    ok,
    skipped,
    warn,
)
from services.core.errors import FitloopError, TokenRefused
from services.core.labelstudio.access import URL_ADVICE, backend_url_problem, jwt_claims
from services.core.labelstudio.transport import client, response_error, unreachable_message

_CREATE_ONE: Final = (
    "In Label Studio, create a personal access token (Account & Settings > Personal Access Token), and set "
    "LABEL_STUDIO_API_KEY to it."
)
_SOON_DAYS: Final = 14.0
_SECONDS: Final = 10.0
_UNREACHABLE: Final = frozenset({"DI", "ER"})
_MOST_PROJECTS: Final = 5
"""For each, Label Studio calls all of its backends."""


@dataclass(frozen=True, slots=True)
class MLBackend:
    """A row of /api/ml/. `state` is CO, DI, ER, TR or PR: for this answer, Label Studio calls /health and /setup."""

    url: str
    state: str
    error: str
    extra_params: object = None


def reason_to_skip(context: Context) -> Finding | None:
    """Return why Label Studio cannot be checked from a laptop, or None."""
    known = context.settings.label_studio
    if context.location is Location.LAPTOP and is_cluster_local(known.url):
        return skipped(f"{known.url} resolves only inside the cluster.", pod_command(context))
    if context.location is Location.LAPTOP and not known.api_key.get_secret_value():
        return skipped(
            "LABEL_STUDIO_API_KEY is not set here, and the cluster's Secrets are not read.",
            pod_command(context),
        )
    return None


def pod_command(context: Context) -> str:
    """Return the advice to run the doctor in an adapter's pod."""
    known = context.settings.cluster
    return f"Run it in a pod: kubectl -n {known.namespace} exec deploy/{known.release} -- fitloop doctor"


def reachable(context: Context) -> Finding:
    """Query Label Studio's release, which needs no token."""
    if skip := reason_to_skip(context):
        return skip
    known = context.settings.label_studio
    url, seconds = known.url, min(known.timeout_seconds, _SECONDS)
    try:
        with client(known.model_copy(update={"timeout_seconds": seconds})) as asker:
            answer = asker.get(f"{url}/api/version/")
    except httpx.HTTPError as error:
        return fail(
            unreachable_message(error, url),
            "LABEL_STUDIO_URL must be Label Studio's address as seen from here.",
        )
    if release := _release(answer):
        return ok(f"Label Studio {release} answers at {url}.")
    problem = response_error(answer, url, "GET api/version/") if answer.status_code != 404 else None
    return fail(
        str(problem or f"The server at {url} is not Label Studio (status {answer.status_code})."),
        "LABEL_STUDIO_URL must be Label Studio's own address, with the path that a proxy puts before it. If Label Studio is "
        "still starting, try again later.",
    )


def token(context: Context) -> Finding:
    """Check that the token is of a lasting kind, and that Label Studio accepts it."""
    if skip := reason_to_skip(context):
        return skip
    key = context.settings.label_studio.api_key.get_secret_value()
    if not key:
        return fail("LABEL_STUDIO_API_KEY is not set, so labels cannot be read.", _CREATE_ONE)
    claims = jwt_claims(key)
    if claims.get("token_type") == "access":
        return fail("LABEL_STUDIO_API_KEY is an access token, which expires within minutes.", _CREATE_ONE)
    try:
        context.label_studio.ask("GET", "api/projects/", params={"page_size": 1})
    except TokenRefused as error:
        return fail(str(error), _refused_token_advice(is_personal=bool(claims)))
    return _accepted("personal access token" if claims else "legacy token", claims.get("exp"), time.time())


CHECKS: Final = (Check("label studio", reachable, 35.0), Check("token", token, 35.0, ("label studio",)))


def backend(context: Context, number: int) -> Finding:
    """Check that our URL is the project's first backend, and that Label Studio reaches it."""
    rows = list_backends(context, number)
    if not rows:
        return fail(
            "The project has no ML backend.",
            "Connect one in Label Studio: the project's Settings > Model > Connect Model.",
        )
    ours = find_ours(context, rows)
    if ours is None:
        connected = ", ".join(context.redact(one.url) for one in rows)
        return fail(
            f"The project's ML backend is {connected}, not {context.redact(context.url)}.",
            "Change its URL in Label Studio (remove the backend and connect it again, which creates the webhook), or correct "
            "--url.",
        )
    url = context.redact(ours.url)
    if problem := backend_url_problem(ours.url):
        return fail(f"The backend's URL {url} cannot work: {problem}.", URL_ADVICE)
    if ours.state in _UNREACHABLE:
        return fail(
            f"Label Studio cannot reach {url}{_reported_error(context, ours)}.",
            "Call that URL's /health from where Label Studio runs: it must answer within 1 s, and /setup within 3 s.",
        )
    if ours is not rows[0]:
        return warn(
            f"The project has {len(rows)} backends, and Label Studio asks only the first for predictions: "
            f"{context.redact(rows[0].url)}.",
            "Remove the others.",
        )
    return ok(f"Label Studio reaches {url}.")


def list_backends(context: Context, number: int) -> list[MLBackend]:
    rows = context.label_studio.ask("GET", "api/ml/", params={"project": number})
    return [
        MLBackend(
            str(row.get("url") or ""),
            str(row.get("state") or ""),
            str(row.get("error_message") or ""),
            row.get("extra_params"),
        )
        for row in rows
    ]


def find_ours(context: Context, rows: list[MLBackend]) -> MLBackend | None:
    """Return the backend with our URL. If our URL is unknown, return the only one."""
    if not context.url:
        return rows[0] if len(rows) == 1 else None
    return next((one for one in rows if host_and_path(one.url) == host_and_path(context.url)), None)


def label_studio_reaches_url(context: Context) -> bool:
    """Return whether there is proof that Label Studio reaches our URL: an event, or an answer to it just now."""
    if any(context.events_seen.values()):
        return True
    if not context.url or reason_to_skip(context):
        return False
    for number in context.projects[:_MOST_PROJECTS]:
        try:
            ours = find_ours(context, list_backends(context, number))
        except FitloopError:
            continue
        if ours is not None and ours.state and ours.state not in _UNREACHABLE:
            return True
    return False


def sole_backend_url(context: Context) -> str:
    """Return the URL of the first project's backend, among projects with exactly one; "" if there is none."""
    if reason_to_skip(context):
        return ""
    for number in context.projects:
        try:
            rows = list_backends(context, number)
        except FitloopError:
            continue
        if len(rows) == 1:
            return rows[0].url
    return ""


def _release(answer: httpx.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        return ""
    return str(found.get("release") or "") if answer.is_success and isinstance(found, dict) else ""


def _refused_token_advice(*, is_personal: bool) -> str:
    if is_personal:
        return f"It was revoked, or belongs to another Label Studio. {_CREATE_ONE}"
    return (
        "It is a legacy token, or an incomplete token. Legacy tokens are refused where they are disabled, as in new "
        f"organizations. {_CREATE_ONE}"
    )


def _accepted(kind: str, expires: object, now: float) -> Finding:
    days = (expires - now) / 86_400 if isinstance(expires, int | float) else None
    if days is not None and days < _SOON_DAYS:
        return warn(f"The {kind} is accepted but expires in {days:.0f} days.", _CREATE_ONE)
    return ok(f"The {kind} is accepted.")


def _reported_error(context: Context, backend: MLBackend) -> str:
    """Return the error that Label Studio reports, without the credentials that it may contain."""
    text = re.sub(r"//[^/@\s]+@", "//", " ".join(backend.error.split()))
    secret = context.settings.auth.secret_path
    text = text.replace(f"/{secret}", "/<secret>") if secret else text
    return f": {text[:200].rstrip('.')}" if text else ""
