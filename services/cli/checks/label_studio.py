"""Label Studio itself: that it answers, which one it is, and that our token is one that it takes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

import httpx

from services.cli.checks.context import Context, Location, host_and_path, is_cluster_local, problem_of
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.core.advice import URL_ADVICE
from services.core.errors import FitloopError, TokenRefused
from services.core.labelstudio.tokens import claims_of
from services.core.labelstudio.wire import client, error_of, not_reached

_NEW_ONE: Final = "In Label Studio, Account & Settings > Personal Access Token, create one, and set LABEL_STUDIO_API_KEY to it."

_SOON_DAYS: Final = 14.0

_SECONDS: Final = 10.0


def reason_to_skip(context: Context) -> Finding | None:
    """Why Label Studio cannot be asked from here at all, though pods may well ask it."""
    url = context.settings.label_studio.url
    if context.location is Location.LAPTOP and is_cluster_local(url):
        return skipped(f"{url} is a name within the cluster.", pod_command(context))
    if context.location is Location.LAPTOP and not context.settings.label_studio.api_key.get_secret_value():
        return skipped(
            "LABEL_STUDIO_API_KEY is not set here, and Secrets of the cluster are not read.",
            pod_command(context),
        )
    return None


def pod_command(context: Context) -> str:
    """The command that sees what pods see."""
    known = context.settings.cluster
    return f"Run it in a pod: kubectl -n {known.namespace} exec deploy/{known.release} -- fitloop doctor"


def reachable(context: Context) -> Finding:
    """It answers, and says which release it is; no token is needed for that."""
    url = context.settings.label_studio.url
    if why := reason_to_skip(context):
        return why
    known = context.settings.label_studio
    asker = client(known.model_copy(update={"timeout_seconds": min(known.timeout_seconds, _SECONDS)}))
    try:
        with asker:
            answer = asker.get(f"{url}/api/version/")
    except httpx.HTTPError as error:
        return fail(not_reached(error, url), "LABEL_STUDIO_URL is its address as seen from here.")
    release = _release(answer)
    if not release:
        problem = error_of(answer, url, "GET api/version/") if answer.status_code != 404 else None
        said = (
            str(problem)
            if problem
            else f"What answers at {url} is no Label Studio (status {answer.status_code})."
        )
        return fail(
            said,
            "LABEL_STUDIO_URL is Label Studio's own address, with the path that a proxy serves it below; or wait until it "
            "has started.",
        )
    return ok(f"Label Studio {release} answers at {url}.")


def _release(answer: httpx.Response) -> str:
    try:
        said = answer.json()
    except ValueError:
        return ""
    return str(said.get("release") or "") if answer.is_success and isinstance(said, dict) else ""


def token(context: Context) -> Finding:
    """It is of a kind that lasts, and Label Studio takes it."""
    if why := reason_to_skip(context):
        return why
    key = context.settings.label_studio.api_key.get_secret_value()
    if not key:
        return fail("LABEL_STUDIO_API_KEY is not set: no label can be read.", _NEW_ONE)
    claims = claims_of(key)
    if claims.get("token_type") == "access":
        return fail("LABEL_STUDIO_API_KEY is an access token, which lasts for minutes.", _NEW_ONE)
    try:
        context.label_studio.ask("GET", "api/projects/", params={"page_size": 1})
    except TokenRefused as error:
        return fail(str(error), _why_refused(bool(claims)))
    return _aged("personal access token" if claims else "legacy token", claims.get("exp"), time.time())


def _why_refused(is_personal: bool) -> str:
    if is_personal:
        return f"It was revoked, or is of another Label Studio. {_NEW_ONE}"
    return (
        "It is a legacy token, or a part of a token: either is refused where legacy tokens are switched off, as they are "
        f"in new organizations. {_NEW_ONE}"
    )


def _aged(kind: str, expires: object, now: float) -> Finding:
    days = (expires - now) / 86_400 if isinstance(expires, int | float) else None
    if days is not None and days < _SOON_DAYS:
        return warn(f"The {kind} is taken, and expires in {days:.0f} days.", _NEW_ONE)
    return ok(f"The {kind} is taken.")


CHECKS: Final = (Check("label studio", reachable, 35.0), Check("token", token, 35.0, ("label studio",)))

_NOT_REACHED: Final = frozenset({"", "DI", "ER"})

_ENOUGH: Final = 5
"""Projects that are asked for a proof: each makes Label Studio call all backends of it."""

CONNECT: Final = "Connect it in Label Studio: the project's Settings > Model > Connect Model."


@dataclass(frozen=True, slots=True)
class MLBackend:
    """A row of /api/ml/: `state` is CO, DI, ER, TR or PR after Label Studio has just asked it for /health and /setup."""

    url: str
    state: str
    error: str
    extra_params: object = None


def backend(context: Context, number: int) -> Finding:
    """A backend with our URL, the first of the project, which Label Studio itself has just reached."""
    rows = list_backends(context, number)
    if not rows:
        return fail("It has no ML backend.", CONNECT)
    ours = find_ours(context, rows)
    if ours is None:
        named = ", ".join(context.redact(one.url) for one in rows)
        return fail(
            f"Its ML backend is {named}, and not {context.redact(context.url)}.",
            "Change its URL in Label Studio (remove the backend and connect it anew, for the webhook), or correct --url.",
        )
    if problem := problem_of(ours.url):
        return fail(f"Its backend {context.redact(ours.url)} cannot work: {problem}.", URL_ADVICE)
    if ours.state in _NOT_REACHED - {""}:
        return fail(
            f"Label Studio does not reach {context.redact(ours.url)}{_said(context, ours)}.",
            "Call that URL's /health from where Label Studio runs: it must answer within 1 s, and /setup within 3 s.",
        )
    if ours is not rows[0]:
        return warn(
            f"It has {len(rows)} backends, and Label Studio asks only the first for predictions: {context.redact(rows[0].url)}.",
            "Remove the others.",
        )
    return ok(f"Label Studio reaches {context.redact(ours.url)}.")


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
    """The one with our URL; where that is not known, the only one."""
    if not context.url:
        return rows[0] if len(rows) == 1 else None
    return next((one for one in rows if host_and_path(one.url) == host_and_path(context.url)), None)


def label_studio_reaches_url(context: Context) -> bool:
    """Whether Label Studio has proven that it reaches our URL: an event came, or it has just been answered by it."""
    if any(context.events_seen.values()):
        return True
    if not context.url or reason_to_skip(context):
        return False
    for number in context.projects[:_ENOUGH]:
        try:
            ours = find_ours(context, list_backends(context, number))
        except FitloopError:
            continue
        if ours is not None and ours.state not in _NOT_REACHED:
            return True
    return False


def sole_backend_url(context: Context) -> str:
    """The URL of the only backend of the first project that has just one; "" where that cannot be told."""
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


def _said(context: Context, backend: MLBackend) -> str:
    """What Label Studio says went wrong, without what its message may tell of credentials."""
    said = re.sub(r"//[^/@\s]+@", "//", " ".join(backend.error.split()))
    secret = context.settings.auth.secret_path
    said = said.replace(f"/{secret}", "/<secret>") if secret else said
    return f": {said[:200].rstrip('.')}" if said else ""
