"""A project's webhook: it points to us, its events are admitted and arrive. Label Studio itself reports no lost event."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from services.cli.checks import (
    Check,
    Context,
    Finding,
    Location,
    fail,
    host_and_path,
    is_private,
    ok,
    skipped,
    warn,
)
from services.cli.checks.label_studio import find_ours, label_studio_reaches_url, list_backends, pod_command
from services.core.errors import LabelStudioError
from services.core.labelstudio.access import AUTH_ADVICE, URL_ADVICE, backend_url_problem

REQUIRED_ACTIONS: Final = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)
"""Events that announce a change of labels."""
_EVENT_SECONDS: Final = 6.0
"""Label Studio sends it before it answers, or a little later from a queue of its own."""
_CALL_SECONDS: Final = 1.0
_UNBLOCK: Final = (
    "In Label Studio's own environment set USE_DEFAULT_BANNED_SUBNETS=false and "
    "USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16, or both ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, "
    "restart it, and connect the backend again."
)
_RECONNECT: Final = (
    "Remove the backend in Label Studio (Settings > Model) and connect it again, which creates the webhook."
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A row of /api/webhooks/."""

    url: str
    active: bool
    payload: bool
    actions: frozenset[str] | None
    """None: all."""
    headers: dict[str, str]


def webhook(context: Context, number: int) -> Finding:
    """Check that a webhook sends events to our URL, and that they are admitted."""
    ours = find_ours(context, list_backends(context, number))
    if ours is None:
        return skipped("Without our ML backend there is no webhook of ours.", "See the check `backend`.")
    hooks = _our_webhooks(context, number)
    if not hooks:
        url, problem = context.redact(ours.url.rstrip("/")), backend_url_problem(ours.url)
        return fail(
            f"The project has no webhook to {url}/webhook, so new labels are noticed only at the next poll.",
            f"{problem[0].upper()}{problem[1:]}. {URL_ADVICE}"
            if problem
            else f"{_RECONNECT} If it does not: {_UNBLOCK}",
        )
    if problem := _problem_of_webhooks(hooks):
        return fail(
            f"Its webhook {problem}.", "Correct that in Label Studio: the project's Settings > Webhooks."
        )
    return _post_empty_event(next(one for one in hooks if one.active))


def event(context: Context, number: int) -> Finding:
    """Save the project's title unchanged, and wait for the event."""
    if not any(_sends(one, "PROJECT_UPDATED") for one in _our_webhooks(context, number)):
        return skipped("No webhook of ours would send an event.", "See the check `webhook`.")
    before = context.adapters.counters()
    try:
        title = context.label_studio.ask("GET", f"api/projects/{number}/")["title"]
        context.label_studio.ask("PATCH", f"api/projects/{number}/", json={"title": title})
    except LabelStudioError as error:
        return fail(
            f"The project's title could not be saved (unchanged). {error}",
            "Fitloop needs the token of a user who can change the project.",
        )
    context.events_seen[number] = False
    deadline = time.monotonic() + _EVENT_SECONDS
    while time.monotonic() < deadline:
        increased = context.adapters.counters() - before
        if any("fitloop_webhook_events_total" in name and '"PROJECT_UPDATED"' in name for name in increased):
            context.events_seen[number] = True
            return ok("An event arrived after the project's title was saved unchanged.")
        if any("fitloop_refused_requests_total" in name and '"webhook"' in name for name in increased):
            return fail("The event arrived but was refused: webhooks send no password.", AUTH_ADVICE)
        time.sleep(0.25)
    return fail(
        f"No event arrived within {_EVENT_SECONDS:g} s after the project's title was saved unchanged.",
        f"If the check `webhook` passes, Label Studio may refuse the address. {_UNBLOCK} If it uses Redis, its workers "
        "(rqworker) must be running.",
    )


def private_address(context: Context) -> Finding:
    """Check for a private address, which Label Studio 1.23.1 and later refuse by default."""
    host = urlsplit(context.url).hostname or ""
    if not host:
        return skipped("The URL is unknown.", "Pass --url.")
    try:
        addresses = sorted({str(row[4][0]) for row in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return _unresolved(context, host)
    private = [address for address in addresses if is_private(address)]
    if not private:
        return ok(f"{host} is a public address.")
    named = host if host == private[0] else f"{host} ({private[0]})"
    if any(context.events_seen.values()):
        return ok(f"{named} is a private address, but Label Studio calls it nevertheless.")
    return warn(
        f"{named} is a private address, which Label Studio 1.23.1 and later refuse by default.", _UNBLOCK
    )


def _unresolved(context: Context, host: str) -> Finding:
    """Trust what Label Studio has proven over what can be looked up here."""
    if label_studio_reaches_url(context):
        return ok(f"{host!r} does not resolve here, but Label Studio reaches it, which is what counts.")
    if context.location is not Location.POD:
        return skipped(
            f"{host!r} does not resolve here, but may resolve for Label Studio.", pod_command(context)
        )
    return fail(
        f"{host!r} does not resolve.", "Correct the URL, or add the name to the DNS that Label Studio uses."
    )


PRIVATE_ADDRESS: Final = Check("private address", private_address)


def _our_webhooks(context: Context, number: int) -> list[Webhook]:
    """Return the webhooks to our backend's URL."""
    ours = find_ours(context, list_backends(context, number))
    if ours is None:
        return []
    target = host_and_path(f"{ours.url.rstrip('/')}/webhook")
    rows: list[dict[str, Any]] = context.label_studio.ask("GET", "api/webhooks/", params={"project": number})
    hooks = [
        Webhook(
            str(row.get("url") or ""),
            bool(row.get("is_active")),
            bool(row.get("send_payload")),
            None if row.get("send_for_all_actions") else frozenset(row.get("actions") or ()),
            {str(name): str(value) for name, value in (row.get("headers") or {}).items()},
        )
        for row in rows
    ]
    return [one for one in hooks if host_and_path(one.url) == target]


def _sends(hook: Webhook, action: str) -> bool:
    return hook.active and (hook.actions is None or action in hook.actions)


def _problem_of_webhooks(hooks: list[Webhook]) -> str:
    active = [one for one in hooks if one.active]
    if not active:
        return "is disabled"
    if not any(one.payload for one in active):
        return "sends no payload, so its events do not name the project"
    missing = [name for name in REQUIRED_ACTIONS if not any(_sends(one, name) for one in active)]
    return f"does not send {', '.join(missing)}" if missing else ""


def _post_empty_event(hook: Webhook) -> Finding:
    """Post an empty event as Label Studio would, with the URL's credentials and the webhook's headers."""
    good = ok("The webhook exists, is enabled, and sends the required events.")
    try:
        answer = httpx.post(hook.url, json={}, headers=hook.headers, timeout=_CALL_SECONDS * 3)
    except httpx.HTTPError:
        return good  # the check `reach` reports it
    if answer.status_code in {401, 403}:
        return fail(f"Its events are refused ({answer.status_code}): webhooks send no password.", AUTH_ADVICE)
    advice = "See the checks of the URL below."
    if answer.status_code >= 300:
        return fail(f"Its URL answers an event with {answer.status_code}.", advice)
    seconds = answer.elapsed.total_seconds()
    if seconds > _CALL_SECONDS:
        return fail(f"Its URL takes {seconds:.1f} s for an event, but Label Studio waits only 1 s.", advice)
    return good
