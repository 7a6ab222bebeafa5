"""A project's ML backends in Label Studio: that ours is among them, and that Label Studio itself reaches it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from services.cli.checks.address import host_and_path, problem_of
from services.cli.checks.context import Context
from services.cli.checks.finding import Finding, fail, ok, warn
from services.cli.checks.label_studio import reason_to_skip
from services.core.advice import URL_ADVICE
from services.core.errors import FitloopError

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
