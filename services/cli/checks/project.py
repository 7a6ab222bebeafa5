"""Each project in Label Studio: its question, our rights, its ML backend, its webhook, and whether an event comes through."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from services.cli.checks.address import is_private, place, problem_of
from services.cli.checks.context import Context, Where
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.cli.checks.label_studio import beyond_reach, in_a_pod
from services.core.errors import FitloopError, LabelStudioError, NoLabelSpace
from services.core.labels import parse_label_space
from services.core.labelstudio import Missing

WANTED: Final = (
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
_CONNECT: Final = "Connect it in Label Studio: the project's Settings > Model > Connect Model."
_RECONNECT: Final = (
    "Remove the backend in Label Studio (Settings > Model) and connect it again: that makes a webhook."
)


@dataclass(frozen=True, slots=True)
class Backend:
    """A row of /api/ml/: `state` is CO, DI, ER, TR or PR after Label Studio has just asked it for /health and /setup."""

    url: str
    state: str
    error: str


@dataclass(frozen=True, slots=True)
class Hook:
    """A row of /api/webhooks/."""

    url: str
    active: bool
    payload: bool
    actions: frozenset[str] | None
    """None: all."""
    headers: dict[str, str]


def checks(context: Context) -> list[Check]:
    """Those of each project; one line where none is known, or where Label Studio cannot be asked from here."""
    if not context.projects:
        return [Check("projects", _none)]
    asked = beyond_reach(context) is None
    looks = _LOOKS if asked else (("in label studio", _unasked), ("state", state))
    return [
        Check(f"project {number}: {name}", partial(look, number=number), 45.0, _needs(number, name))
        for number in context.projects
        for name, look in looks
    ]


def _needs(number: int, name: str) -> tuple[str, ...]:
    """One cause makes one failure."""
    if name == "state":
        return ()
    return ("label studio", "token", *(() if name == "found" else (f"project {number}: found",)))


def _none(_: Context) -> Finding:
    return skipped(
        "Fitloop knows no project yet, so none was looked at.",
        "Connect one in Label Studio (Settings > Model), or say --project <id>.",
    )


def _unasked(context: Context, number: int) -> Finding:
    return beyond_reach(context) or found(context, number)


def found(context: Context, number: int) -> Finding:
    """The project is there."""
    try:
        project, counts = context.label_studio.project(number)
    except Missing:
        return fail(
            f"Label Studio has no project {number} that the token's user may see.",
            "Correct --project, or let that user into the project's workspace.",
        )
    return ok(f"It is {project.title!r}, {counts.annotated_tasks} of {counts.tasks} tasks labelled.")


def question(context: Context, number: int) -> Finding:
    """It asks what a text classifier can answer."""
    project, _ = context.label_studio.project(number)
    try:
        space = parse_label_space(project.label_config)
    except NoLabelSpace as error:
        return fail(str(error), "Change the labeling interface in the project's settings.")
    return ok(f"{space.note}, {len(space.labels)} labels.")


def rights(context: Context, number: int) -> Finding:
    """Tasks may be read, and predictions stored: none are, since none are sent."""
    advice = "Use the token of a user who may annotate and change the project."
    try:
        context.label_studio.ask(
            "GET", "api/tasks/", params={"project": number, "page_size": 1, "fields": "task_only"}
        )
    except LabelStudioError as error:
        return fail(f"Tasks cannot be read. {error}", advice)
    try:
        context.label_studio.ask("POST", f"api/projects/{number}/import/predictions", json=[])
    except LabelStudioError as error:
        return fail(f"Predictions cannot be stored. {error}", advice)
    return ok("The token's user may read its tasks and store predictions.")


def backend(context: Context, number: int) -> Finding:
    """A backend with our URL, the first of the project, which Label Studio itself has just reached."""
    rows = _backends(context, number)
    if not rows:
        return fail("It has no ML backend.", _CONNECT)
    ours = _ours(context, rows)
    if ours is None:
        named = ", ".join(context.shown(one.url) for one in rows)
        return fail(
            f"Its ML backend is {named}, and not {context.shown(context.url)}.",
            "Change its URL in Label Studio (remove the backend and connect it anew, for the webhook), or correct --url.",
        )
    if problem := problem_of(ours.url):
        return fail(f"Its backend {context.shown(ours.url)} cannot work: {problem}.", _URL_ADVICE)
    if ours.state in {"DI", "ER"}:
        return fail(
            f"Label Studio does not reach {context.shown(ours.url)}{_said(context, ours)}.",
            "Call that URL's /health from where Label Studio runs: it must answer within 1 s, and /setup within 3 s.",
        )
    if ours is not rows[0]:
        return warn(
            f"It has {len(rows)} backends, and Label Studio asks only the first for predictions: {context.shown(rows[0].url)}.",
            "Remove the others.",
        )
    return ok(f"Label Studio reaches {context.shown(ours.url)}.")


def webhook(context: Context, number: int) -> Finding:
    """Events go to our URL, are switched on, and will be let in."""
    rows = _backends(context, number)
    ours = _ours(context, rows)
    if ours is None:
        return skipped("Without our ML backend there is none of ours.", "See the check of its backend.")
    hooks = _our_hooks(context, number)
    if not hooks:
        return fail(
            f"It has no webhook to {context.shown(ours.url.rstrip('/'))}/webhook: no label will be noticed at once.",
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
    before = context.adapters.counted()
    try:
        title = context.label_studio.ask("GET", f"api/projects/{number}/")["title"]
        context.label_studio.ask("PATCH", f"api/projects/{number}/", json={"title": title})
    except LabelStudioError as error:
        return fail(
            f"The project could not be given its own title. {error}",
            "Fitloop needs a token of a user who may change the project.",
        )
    context.seen[number] = False
    until = time.monotonic() + _EVENT_SECONDS
    while time.monotonic() < until:
        more = context.adapters.counted() - before
        if any("fitloop_webhook_events_total" in name and '"PROJECT_UPDATED"' in name for name in more):
            context.seen[number] = True
            return ok("Its event came when its title was set to what it was.")
        if any("fitloop_refused_requests_total" in name and '"webhook"' in name for name in more):
            return fail("Its event came and was refused: webhooks carry no password.", _AUTH_ADVICE)
        time.sleep(0.25)
    return fail(
        f"No event came within {_EVENT_SECONDS:g} s when its title was set to what it was.",
        f"If its webhook above is in order, Label Studio may refuse the address. {_UNBLOCK} Where it has a Redis, "
        "its workers (rqworker) must run.",
    )


def state(context: Context, number: int) -> Finding:
    """What Fitloop itself says of the project."""
    said = context.adapters.ask(f"/api/projects/{number}")
    if said.get("id") != number:
        return warn(
            "Fitloop does not look after it yet.",
            "Open the project's Settings > Model page in Label Studio, which makes it call; then look again in a minute.",
        )
    if problem := str(said.get("problem") or ""):
        return warn(f"Fitloop says: {problem}", f"`fitloop status {number}` tells more.")
    served = (said.get("served") or {}).get("current") or "nothing yet"
    return ok(f"It is served {served}; {str(said.get('sentence') or 'all is quiet').rstrip('.')}.")


def private_address(context: Context) -> Finding:
    """Label Studio of 1.23.1 and later refuses addresses of private networks unless it is told otherwise."""
    host = urlsplit(context.url).hostname or ""
    if not host:
        return skipped("The URL is not known.", "Say --url.")
    try:
        addresses = sorted({str(row[4][0]) for row in socket.getaddrinfo(host, None)})
    except OSError:
        if context.where is not Where.POD:
            return skipped(
                f"{host!r} is not known here, though it may be to Label Studio.", in_a_pod(context)
            )
        return fail(
            f"{host!r} has no address.",
            "Correct the URL, or make the name known to the DNS that Label Studio asks.",
        )
    private = [address for address in addresses if is_private(address)]
    if not private:
        return ok(f"{host} is a public address.")
    named = host if host == private[0] else f"{host} ({private[0]})"
    if any(context.seen.values()):
        return ok(f"{named} is private, and Label Studio calls it all the same.")
    return warn(
        f"{named} is a private address, which Label Studio refuses from 1.23.1 on unless it is told otherwise.",
        _UNBLOCK,
    )


_URL_ADVICE: Final = "Use the whole name, as http://fitloop.<namespace>.svc.cluster.local, an IP address, or a host of the ingress with a dot in it."
_AUTH_ADVICE: Final = (
    "Connect the URL with FITLOOP_SECRET_PATH as its path, or with http://<user>:<password>@ before the host."
)
_LOOKS: Final = (
    ("found", found),
    ("question", question),
    ("rights", rights),
    ("backend", backend),
    ("webhook", webhook),
    ("event", event),
    ("state", state),
)
PRIVATE_ADDRESS: Final = Check("private address", private_address)


def _backends(context: Context, number: int) -> list[Backend]:
    rows = context.label_studio.ask("GET", "api/ml/", params={"project": number})
    return [
        Backend(str(row.get("url") or ""), str(row.get("state") or ""), str(row.get("error_message") or ""))
        for row in rows
    ]


def _said(context: Context, backend: Backend) -> str:
    """What Label Studio says went wrong, without what its message may tell of credentials."""
    said = re.sub(r"//[^/@\s]+@", "//", " ".join(backend.error.split()))
    secret = context.settings.auth.secret_path
    said = said.replace(f"/{secret}", "/<secret>") if secret else said
    return f": {said[:200].rstrip('.')}" if said else ""


def _ours(context: Context, rows: list[Backend]) -> Backend | None:
    """The one with our URL; where that is not known, the only one."""
    if not context.url:
        return rows[0] if len(rows) == 1 else None
    return next((one for one in rows if place(one.url) == place(context.url)), None)


def _hooks(context: Context, number: int) -> list[Hook]:
    rows: list[dict[str, Any]] = context.label_studio.ask("GET", "api/webhooks/", params={"project": number})
    return [
        Hook(
            str(row.get("url") or ""),
            bool(row.get("is_active")),
            bool(row.get("send_payload")),
            None if row.get("send_for_all_actions") else frozenset(row.get("actions") or ()),
            {str(name): str(value) for name, value in (row.get("headers") or {}).items()},
        )
        for row in rows
    ]


def _our_hooks(context: Context, number: int) -> list[Hook]:
    """Those to our backend's URL; none without a backend."""
    ours = _ours(context, _backends(context, number))
    if ours is None:
        return []
    wanted = place(f"{ours.url.rstrip('/')}/webhook")
    return [one for one in _hooks(context, number) if place(one.url) == wanted]


def _sends(hook: Hook, action: str) -> bool:
    return hook.active and (hook.actions is None or action in hook.actions)


def _problem_of_hook(hooks: list[Hook]) -> str:
    on = [one for one in hooks if one.active]
    if not on:
        return "is switched off"
    if not any(one.payload for one in on):
        return "sends no payload, which says of which project it is"
    missing = [name for name in WANTED if not any(_sends(one, name) for one in on)]
    return f"does not send {', '.join(missing)}" if missing else ""


def _no_hook(url: str) -> str:
    problem = problem_of(url)
    return (
        f"{problem[0].upper()}{problem[1:]}. {_URL_ADVICE}"
        if problem
        else f"{_RECONNECT} If it does not: {_UNBLOCK}"
    )


def _let_in(hook: Hook) -> Finding:
    """An event that is none, sent as Label Studio sends one: with what the URL and the webhook's headers hold."""
    fine = ok("It is there, switched on, and sends what is needed.")
    try:
        answer = httpx.post(hook.url, json={}, headers=hook.headers, timeout=_CALL_SECONDS * 3)
    except httpx.HTTPError:
        return fine  # `reach` tells of that
    if answer.status_code in {401, 403}:
        return fail(
            f"Its events are refused ({answer.status_code}): webhooks carry no password.", _AUTH_ADVICE
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


def first_backend(context: Context) -> str:
    """The URL of the only backend of the first project that has just one; "" where that cannot be told."""
    if beyond_reach(context):
        return ""
    for number in context.projects:
        try:
            rows = _backends(context, number)
        except FitloopError:
            continue
        if len(rows) == 1:
            return rows[0].url
    return ""
