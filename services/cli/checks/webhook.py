"""A project's webhook: that events go to us, are let in, and really come. Label Studio says nothing where they do not."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from services.cli.checks.context import Context, Location, host_and_path, is_private, problem_of
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.cli.checks.label_studio import find_ours, label_studio_reaches_url, list_backends, pod_command
from services.core.advice import AUTH_ADVICE, URL_ADVICE
from services.core.errors import LabelStudioError

REQUIRED_ACTIONS: Final = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)
"""Events by which a change of labels is noticed at once."""
_EVENT_SECONDS: Final = 6.0
"""Label Studio sends it while it answers; a queue of its own may hold it a little."""
_CALL_SECONDS: Final = 1.0
_UNBLOCK: Final = (
    "In Label Studio's own environment set USE_DEFAULT_BANNED_SUBNETS=false and "
    "USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16, or both ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, "
    "restart it, and connect the backend anew."
)
_RECONNECT: Final = (
    "Remove the backend in Label Studio (Settings > Model) and connect it again: that makes a webhook."
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
    """Events go to our URL, are switched on, and will be let in."""
    rows = list_backends(context, number)
    ours = find_ours(context, rows)
    if ours is None:
        return skipped("Without our ML backend there is none of ours.", "See the check of its backend.")
    hooks = _our_hooks(context, number)
    if not hooks:
        return fail(
            f"It has no webhook to {context.redact(ours.url.rstrip('/'))}/webhook: no label will be noticed at once.",
            _no_hook(ours.url),
        )
    if problem := _problem_of_hook(hooks):
        return fail(
            f"Its webhook {problem}.", "In Label Studio, the project's Settings > Webhooks, correct that."
        )
    return _let_in(next(one for one in hooks if one.active))


def event(context: Context, number: int) -> Finding:
    """The project is given its own title, which changes nothing, and the event of it must come."""
    if not any(_sends(one, "PROJECT_UPDATED") for one in _our_hooks(context, number)):
        return skipped("No webhook would send one.", "See the check of its webhook.")
    before = context.adapters.counters()
    try:
        title = context.label_studio.ask("GET", f"api/projects/{number}/")["title"]
        context.label_studio.ask("PATCH", f"api/projects/{number}/", json={"title": title})
    except LabelStudioError as error:
        return fail(
            f"The project could not be given its own title. {error}",
            "Fitloop needs a token of a user who may change the project.",
        )
    context.events_seen[number] = False
    until = time.monotonic() + _EVENT_SECONDS
    while time.monotonic() < until:
        more = context.adapters.counters() - before
        if any("fitloop_webhook_events_total" in name and '"PROJECT_UPDATED"' in name for name in more):
            context.events_seen[number] = True
            return ok("Its event came when its title was set to what it was.")
        if any("fitloop_refused_requests_total" in name and '"webhook"' in name for name in more):
            return fail("Its event came and was refused: webhooks carry no password.", AUTH_ADVICE)
        time.sleep(0.25)
    return fail(
        f"No event came within {_EVENT_SECONDS:g} s when its title was set to what it was.",
        f"If its webhook above is in order, Label Studio may refuse the address. {_UNBLOCK} Where it has a Redis, "
        "its workers (rqworker) must run.",
    )


def private_address(context: Context) -> Finding:
    """Label Studio of 1.23.1 and later refuses addresses of private networks unless it is told otherwise."""
    host = urlsplit(context.url).hostname or ""
    if not host:
        return skipped("The URL is not known.", "Say --url.")
    try:
        addresses = sorted({str(row[4][0]) for row in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return _without_address(context, host)
    private = [address for address in addresses if is_private(address)]
    if not private:
        return ok(f"{host} is a public address.")
    named = host if host == private[0] else f"{host} ({private[0]})"
    if any(context.events_seen.values()):
        return ok(f"{named} is private, and Label Studio calls it all the same.")
    return warn(
        f"{named} is a private address, which Label Studio refuses from 1.23.1 on unless it is told otherwise.",
        _UNBLOCK,
    )


def _without_address(context: Context, host: str) -> Finding:
    """What Label Studio has proven outranks what can be looked up here."""
    if label_studio_reaches_url(context):
        return ok(f"{host!r} has no address here, and Label Studio reaches it: that is what counts.")
    if context.location is not Location.POD:
        return skipped(f"{host!r} is not known here, though it may be to Label Studio.", pod_command(context))
    return fail(
        f"{host!r} has no address.",
        "Correct the URL, or make the name known to the DNS that Label Studio asks.",
    )


PRIVATE_ADDRESS: Final = Check("private address", private_address)


def _hooks(context: Context, number: int) -> list[Webhook]:
    rows: list[dict[str, Any]] = context.label_studio.ask("GET", "api/webhooks/", params={"project": number})
    return [
        Webhook(
            str(row.get("url") or ""),
            bool(row.get("is_active")),
            bool(row.get("send_payload")),
            None if row.get("send_for_all_actions") else frozenset(row.get("actions") or ()),
            {str(name): str(value) for name, value in (row.get("headers") or {}).items()},
        )
        for row in rows
    ]


def _our_hooks(context: Context, number: int) -> list[Webhook]:
    """Those to our backend's URL; none without a backend."""
    ours = find_ours(context, list_backends(context, number))
    if ours is None:
        return []
    wanted = host_and_path(f"{ours.url.rstrip('/')}/webhook")
    return [one for one in _hooks(context, number) if host_and_path(one.url) == wanted]


def _sends(hook: Webhook, action: str) -> bool:
    return hook.active and (hook.actions is None or action in hook.actions)


def _problem_of_hook(hooks: list[Webhook]) -> str:
    on = [one for one in hooks if one.active]
    if not on:
        return "is switched off"
    if not any(one.payload for one in on):
        return "sends no payload, which says of which project it is"
    missing = [name for name in REQUIRED_ACTIONS if not any(_sends(one, name) for one in on)]
    return f"does not send {', '.join(missing)}" if missing else ""


def _no_hook(url: str) -> str:
    problem = problem_of(url)
    return (
        f"{problem[0].upper()}{problem[1:]}. {URL_ADVICE}"
        if problem
        else f"{_RECONNECT} If it does not: {_UNBLOCK}"
    )


def _let_in(hook: Webhook) -> Finding:
    """An event that is none, sent as Label Studio sends one: with what the URL and the webhook's headers hold."""
    fine = ok("It is there, switched on, and sends what is needed.")
    try:
        answer = httpx.post(hook.url, json={}, headers=hook.headers, timeout=_CALL_SECONDS * 3)
    except httpx.HTTPError:
        return fine  # `reach` tells of that
    if answer.status_code in {401, 403}:
        return fail(
            f"Its events are refused ({answer.status_code}): webhooks carry no password.", AUTH_ADVICE
        )
    if answer.status_code >= 300:
        return fail(f"Its URL answers {answer.status_code} to an event.", "See the checks of the URL below.")
    slow = answer.elapsed.total_seconds()
    if slow > _CALL_SECONDS:
        return fail(
            f"Its URL takes {slow:.1f} s for an event, and Label Studio waits 1 s.",
            "See the checks of the URL below.",
        )
    return fine
