"""The URL as Label Studio calls it: over new connections, without following redirects, with its time limits."""

from __future__ import annotations

import statistics
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from services.cli.checks.calls import (
    LAPTOP_ADVICE,
    SLOW_ADVICE,
    Unreachable,
    call,
    json_object,
    probe_url,
    send,
    without_credentials,
)
from services.cli.checks.context import Context, Location, problem_of
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.cli.checks.label_studio import label_studio_reaches_url

HEALTH_SECONDS: Final = 1.0
SETUP_SECONDS: Final = 3.0
"""Label Studio's own, ML_TIMEOUT_HEALTH and ML_TIMEOUT_SETUP."""
_BODY_BYTES: Final = 2 << 20
_TASKS: Final = 8
_TRIES: Final = 3
_BODYLESS: Final = frozenset({301, 302, 303})
_LARGER: Final = "Let the ingress take more: the chart's ingress.bodySize; nginx's proxy-body-size, Traefik's maxRequestBodyBytes."
_NOT_US: Final = "The ingress, or the URL's path, leads elsewhere: FITLOOP_PATH_PREFIX (the chart's ingress.path) must be the path in the URL."


def url_is_valid(context: Context) -> Finding:
    """Django takes it for a webhook."""
    if not context.url:
        return skipped(
            "It is not known which URL Label Studio is connected to.",
            "Say --url <the URL pasted into Label Studio>.",
        )
    if problem := problem_of(context.url):
        return fail(
            f"{context.redact(context.url)} is no URL for a backend: {problem}.",
            "Use a whole name, as http://fitloop.<namespace>.svc.cluster.local, an IP address, or the ingress's host.",
        )
    return ok(f"{context.redact(context.url)} is a URL that Label Studio makes a webhook for.")


def reachable(context: Context) -> Finding:
    """A redirect of 301 or 302 turns Label Studio's POST into a GET without a body."""

    def look() -> Finding:
        for method, path in (("GET", "/health"), ("POST", "/setup")):
            answer = call(context, method, path, json=None if method == "GET" else {})
            if answer.is_redirect:
                return _redirected(context, method, path, answer)
        return ok("It is reached, and redirects no request.")

    return probe_url(context, look)


def health(context: Context) -> Finding:
    """Within a second, or Label Studio shows the backend as disconnected."""

    def look() -> Finding:
        answers = _several(context, "GET", "/health", HEALTH_SECONDS)
        if json_object(answers[-1]).get("model_class") != "Fitloop":
            return _alien(context, answers[-1], "/health")
        return _timely("/health", answers, HEALTH_SECONDS)

    return probe_url(context, look)


def setup(context: Context) -> Finding:
    """Within three seconds. Sent without a project, so that nothing comes of it: our own 400 is a good answer."""

    def look() -> Finding:
        answers = _several(context, "POST", "/setup", SETUP_SECONDS, json={})
        last = answers[-1]
        if last.status_code != httpx.codes.BAD_REQUEST or not json_object(last).get("detail"):
            return _alien(context, last, "/setup")
        return _timely("/setup", answers, SETUP_SECONDS)

    return probe_url(context, look)


def credentials(context: Context) -> Finding:
    """Label Studio is let in, by its webhooks as well; who is not kept out is another check's."""

    def look() -> Finding:
        bare = send(context, httpx.Request("GET", without_credentials(context.url) + "/versions"))
        if bare.status_code not in {401, 403}:
            return _let_in(context) if "versions" in json_object(bare) else _alien(context, bare, "/versions")
        as_in_url = call(context, "GET", "/versions", login=None)
        if as_in_url.status_code not in {401, 403}:
            return ok("The URL's own credentials are taken, by webhooks as well.")
        if call(context, "GET", "/versions").status_code in {401, 403}:
            return fail(
                "Neither the URL's credentials nor BASIC_AUTH_USER and BASIC_AUTH_PASS are taken.",
                _CREDENTIALS,
            )
        return fail(
            "A password is asked for, and Label Studio's webhooks carry none: they would be refused.",
            "Connect the URL with FITLOOP_SECRET_PATH as its path, or with http://<user>:<password>@ before the host.",
        )

    return probe_url(context, look)


def body_size(context: Context) -> Finding:
    """Retrieve predictions sends all the chosen tasks in one body; nginx takes 1 MB unless it is told otherwise."""

    def look() -> Finding:
        text = "x" * (_BODY_BYTES // _TASKS)
        tasks = [{"id": number, "data": {"text": text}} for number in range(_TASKS)]
        body = {"tasks": tasks, "project": "0.0"}
        try:
            answer = call(context, "POST", "/predict", json=body, seconds=20.0)
        except Unreachable:  # small requests were answered
            return fail("A /predict of 2 MB breaks off before its answer.", _LARGER)
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return fail(
                "A /predict of 2 MB is refused (413), and 'Retrieve predictions' for a few thousand tasks is as large.",
                _LARGER,
            )
        if len(json_object(answer).get("results") or ()) != _TASKS:
            return _alien(context, answer, "/predict")
        return ok("A /predict of 2 MB is taken.")

    return probe_url(context, look)


CHECKS: Final = (
    Check("url", url_is_valid),
    Check("reach", reachable, 20.0),
    Check("health", health, 20.0, ("reach",)),
    Check("setup", setup, 20.0, ("reach",)),
    Check("credentials", credentials, 20.0, ("reach",)),
    Check("body size", body_size, 25.0, ("reach",)),
)
_CREDENTIALS: Final = (
    "Put them into the URL, or set BASIC_AUTH_USER and BASIC_AUTH_PASS here and in Label Studio's Settings > Model as they are "
    "set in Fitloop."
)


def _several(context: Context, method: str, path: str, limit: float, **options: Any) -> list[httpx.Response]:
    """A few answers, or one that is too slow."""
    answers: list[httpx.Response] = []
    while len(answers) < _TRIES:
        answers.append(call(context, method, path, **options))
        if answers[-1].elapsed.total_seconds() > limit:
            break
    return answers


def _timely(path: str, answers: list[httpx.Response], limit: float) -> Finding:
    seconds = [answer.elapsed.total_seconds() for answer in answers]
    middle, worst = statistics.median(seconds), max(seconds)
    said = f"{path} answers within {middle * 1000:.0f} ms; Label Studio waits {limit:g} s."
    if worst > limit:
        return fail(f"{path} takes {worst:.1f} s, and Label Studio waits {limit:g} s.", SLOW_ADVICE)
    return warn(said, SLOW_ADVICE) if worst > limit / 2 else ok(said)


def _redirected(context: Context, method: str, path: str, answer: httpx.Response) -> Finding:
    target = context.redact(str(answer.url.join(answer.headers.get("location", ""))))
    sentence = f"{method} {path} is redirected ({answer.status_code}) to {target}"
    advice = "Connect Label Studio to the address that it is redirected to (https://, or with the slash), or redirect with 308."
    if answer.status_code in _BODYLESS:
        return fail(f"{sentence}: Label Studio follows, and its POSTs become GETs without a body.", advice)
    return warn(f"{sentence}, which costs each request another one.", advice)


def _alien(context: Context, answer: httpx.Response, path: str) -> Finding:
    """What is wrong where the answer is not Fitloop's."""
    url, status = context.redact(context.url), answer.status_code
    if answer.is_redirect:
        return fail(f"{path} is redirected ({status}).", "See the check of reach.")
    if status in {401, 403}:
        return fail(
            f"{url} asks for credentials that neither the URL nor BASIC_AUTH_* holds, for {path}.",
            _CREDENTIALS,
        )
    if status in {502, 503, 504}:
        return fail(
            f"{url} answers {status} to {path}: no adapter is ready behind it.", "See `kubectl get pods`."
        )
    if context.location is Location.POD and label_studio_reaches_url(context):
        return skipped(
            f"Another server answers {path} at {url} from here, and Label Studio reaches Fitloop there.",
            LAPTOP_ADVICE,
        )
    return fail(f"What answers {path} at {url} is not Fitloop (status {status}).", _NOT_US)


def _let_in(context: Context) -> Finding:
    secret = context.settings.auth.secret_path
    if secret and f"/{secret}" in urlsplit(context.url).path:
        return ok("The secret path in the URL lets Label Studio in without a password, its webhooks as well.")
    return ok("Label Studio needs no credentials at this URL.")
