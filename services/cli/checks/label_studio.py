"""Label Studio itself: that it answers, which one it is, and that our token is one that it takes."""

from __future__ import annotations

import time
from typing import Final

import httpx

from services.cli.checks.address import is_cluster_local
from services.cli.checks.context import Context, Location
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.core.errors import TokenRefused
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
