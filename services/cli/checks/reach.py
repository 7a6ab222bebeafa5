"""The URL as Label Studio calls it: over new connections, without following redirects, within its time limits."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from services.cli.checks import (
    Check,
    Context,
    Finding,
    Location,
    fail,
    is_cluster_local,
    json_object,
    ok,
    skipped,
    warn,
)
from services.cli.checks.label_studio import label_studio_reaches_url, pod_command
from services.core.http.faults import describe_fault_briefly
from services.core.labelstudio.access import backend_url_problem

HEALTH_SECONDS: Final = 1.0
SETUP_SECONDS: Final = 3.0
"""Label Studio's own limits, ML_TIMEOUT_HEALTH and ML_TIMEOUT_SETUP."""
_TIMEOUT_SECONDS: Final = 5.0
"""Longer than both, so that a finding can say how long an answer took."""
_BODY_BYTES: Final = 2 << 20
_TASKS: Final = 8
_ATTEMPTS: Final = 3
_BODYLESS: Final = frozenset({301, 302, 303})
_SLOW: Final = "Give the adapter more CPU (adapter.resources), and look for a slow hop to Label Studio."
_FROM_A_LAPTOP: Final = "Run it on a laptop that reaches the URL: fitloop doctor --url <URL>."
_BODY_LIMIT: Final = "Raise the ingress's body limit: ingress.bodySize in the chart (nginx: proxy-body-size, Traefik: maxRequestBodyBytes)."
_WRONG_PATH: Final = (
    "The URL leads elsewhere: FITLOOP_PATH_PREFIX (the chart's ingress.path) must be the path in the URL."
)
CREDENTIALS_ADVICE: Final = (
    "Put the credentials into the URL, or set BASIC_AUTH_USER and BASIC_AUTH_PASS here and in Label Studio's Settings > Model "
    "to the values that Fitloop has."
)
Login = tuple[str, str] | None


class Unreachable(Exception):
    """There is no answer; `finding` reports why, or why that does not matter."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def probe_url(context: Context, probe: Callable[[], Finding]) -> Finding:
    """Return what `probe` finds, or what follows if the URL cannot be called or does not answer."""
    if not context.url or backend_url_problem(context.url).startswith(("it cannot", "it must")):
        return skipped("There is no URL to call.", "See the check `url`.")
    if context.location is Location.LAPTOP and is_cluster_local(context.url):
        return skipped("The URL's host resolves only inside the cluster.", pod_command(context))
    try:
        return probe()
    except Unreachable as error:
        return error.finding


def call(context: Context, method: str, path: str, login: Any = ..., **options: Any) -> httpx.Response:
    """Send a request with the URL's credentials, or else with ours unless `login` is given. Raises Unreachable."""
    seconds = options.pop("seconds", _TIMEOUT_SECONDS)
    request = httpx.Request(method, context.url.rstrip("/") + path, **options)
    use_ours = urlsplit(context.url).username is None and login is ...
    return send(context, request, context.login if use_ours else None, seconds)


def send(
    context: Context, request: httpx.Request, login: Login = None, seconds: float = _TIMEOUT_SECONDS
) -> httpx.Response:
    """Send the request over a new connection. Raises Unreachable."""
    timeout = httpx.Timeout(seconds, connect=3.05)
    with httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client:
        try:
            return client.send(request, auth=login or httpx.USE_CLIENT_DEFAULT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(_unreachable(context, request, error)) from error


def _unreachable(context: Context, request: httpx.Request, error: Exception) -> Finding:
    url, route = context.redact(context.url), request.url.path.rpartition("/")[2]
    if label_studio_reaches_url(context):
        return skipped(
            f"{url} cannot be reached from here, but Label Studio reaches it, which is what counts.",
            _FROM_A_LAPTOP,
        )
    if isinstance(error, httpx.ReadTimeout):
        return fail(f"{url} accepts connections but does not answer /{route} in time.", _SLOW)
    if "CERTIFICATE" in str(error).upper():
        return fail(
            f"The certificate of {url} is not trusted here.",
            "It must be trusted where Label Studio runs: set REQUESTS_CA_BUNDLE in its environment to the CA's certificate.",
        )
    message = f"{url} cannot be reached from here ({describe_fault_briefly(error)})."
    if context.location is Location.POD:
        return skipped(
            f"{message} A pod may be unable to reach its own ingress; what counts is whether Label Studio reaches the backend.",
            _FROM_A_LAPTOP,
        )
    return fail(
        message,
        "Call it from where Label Studio runs. Check the host name, the ingress, and firewalls or NetworkPolicies in between.",
    )


def url_is_valid(context: Context) -> Finding:
    """Check that Django accepts the URL for a webhook."""
    if not context.url:
        return skipped(
            "The URL that Label Studio is connected to is unknown.",
            "Pass --url <the URL pasted into Label Studio>.",
        )
    url = context.redact(context.url)
    if problem := backend_url_problem(context.url):
        return fail(
            f"{url} does not work as the URL of a backend: {problem}.",
            "Use a full name such as http://fitloop.<namespace>.svc.cluster.local, an IP address, or the ingress's host.",
        )
    return ok(f"Label Studio creates a webhook for {url}.")


def reachable(context: Context) -> Finding:
    """Check for redirects: after a 301 or 302, Label Studio's POST becomes a GET without a body."""

    def probe() -> Finding:
        for method, path in (("GET", "/health"), ("POST", "/setup")):
            answer = call(context, method, path, json=None if method == "GET" else {})
            if answer.is_redirect:
                return _redirected(context, method, path, answer)
        return ok("It answers and redirects nothing.")

    return probe_url(context, probe)


def health(context: Context) -> Finding:
    """Check /health: after 1 s, Label Studio shows the backend as disconnected."""

    def probe() -> Finding:
        answers = _several(context, "GET", "/health", HEALTH_SECONDS)
        if json_object(answers[-1]).get("model_class") != "Fitloop":
            return not_fitloop(context, answers[-1], "/health")
        return _timing("/health", answers, HEALTH_SECONDS)

    return probe_url(context, probe)


def setup(context: Context) -> Finding:
    """Check /setup without a project, which changes nothing: Fitloop's own 400 is a good answer."""

    def probe() -> Finding:
        answers = _several(context, "POST", "/setup", SETUP_SECONDS, json={})
        last = answers[-1]
        if last.status_code != httpx.codes.BAD_REQUEST or not json_object(last).get("detail"):
            return not_fitloop(context, last, "/setup")
        return _timing("/setup", answers, SETUP_SECONDS)

    return probe_url(context, probe)


def body_size(context: Context) -> Finding:
    """Check that a large /predict gets through; nginx's default limit is 1 MB."""

    def probe() -> Finding:
        text = "x" * (_BODY_BYTES // _TASKS)
        tasks = [{"id": number, "data": {"text": text}} for number in range(_TASKS)]
        try:
            answer = call(context, "POST", "/predict", json={"tasks": tasks, "project": "0.0"}, seconds=20.0)
        except Unreachable:  # small requests were answered
            return fail("A /predict of 2 MB is cut off before it is answered.", _BODY_LIMIT)
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return fail(
                "A /predict of 2 MB is refused (413); 'Retrieve predictions' for a few thousand tasks is that large.",
                _BODY_LIMIT,
            )
        if len(json_object(answer).get("results") or ()) != _TASKS:
            return not_fitloop(context, answer, "/predict")
        return ok("A /predict of 2 MB is accepted.")

    return probe_url(context, probe)


BODY_SIZE: Final = Check("body size", body_size, 25.0, ("reach",))
CHECKS: Final = (
    Check("url", url_is_valid),
    Check("reach", reachable, 20.0),
    Check("health", health, 20.0, ("reach",)),
    Check("setup", setup, 20.0, ("reach",)),
)


def _several(context: Context, method: str, path: str, limit: float, **options: Any) -> list[httpx.Response]:
    """Return a few answers, up to the first that is too slow."""
    answers: list[httpx.Response] = []
    while len(answers) < _ATTEMPTS:
        answers.append(call(context, method, path, **options))
        if answers[-1].elapsed.total_seconds() > limit:
            break
    return answers


def _timing(path: str, answers: list[httpx.Response], limit: float) -> Finding:
    seconds = [answer.elapsed.total_seconds() for answer in answers]
    median, worst = statistics.median(seconds), max(seconds)
    if worst > limit:
        return fail(f"{path} takes {worst:.1f} s, but Label Studio waits only {limit:g} s.", _SLOW)
    message = f"{path} answers within {median * 1000:.0f} ms; Label Studio waits {limit:g} s."
    return warn(message, _SLOW) if worst > limit / 2 else ok(message)


def _redirected(context: Context, method: str, path: str, answer: httpx.Response) -> Finding:
    target = context.redact(str(answer.url.join(answer.headers.get("location", ""))))
    message = f"{method} {path} is redirected ({answer.status_code}) to {target}"
    advice = "Connect Label Studio to the target of the redirect (https://, or with the slash), or redirect with 308."
    if answer.status_code in _BODYLESS:
        return fail(f"{message}. Label Studio's POSTs become GETs without a body.", advice)
    return warn(f"{message}, which doubles the requests.", advice)


def not_fitloop(context: Context, answer: httpx.Response, path: str) -> Finding:
    """Return what is wrong when the answer is not one of Fitloop's."""
    url, status = context.redact(context.url), answer.status_code
    if answer.is_redirect:
        return fail(f"{path} is redirected ({status}).", "See the check `reach`.")
    if status in {401, 403}:
        return fail(
            f"{url} requires credentials for {path}, and neither the URL nor BASIC_AUTH_* has them.",
            CREDENTIALS_ADVICE,
        )
    if status in {502, 503, 504}:
        return fail(
            f"{url} answers {path} with {status}: no adapter behind it is ready.", "Run `kubectl get pods`."
        )
    if context.location is Location.POD and label_studio_reaches_url(context):
        return skipped(
            f"From here, another server answers {path} at {url}, but Label Studio reaches Fitloop there.",
            _FROM_A_LAPTOP,
        )
    return fail(f"The server that answers {path} at {url} is not Fitloop (status {status}).", _WRONG_PATH)
