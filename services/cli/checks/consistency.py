"""Clocks: of the storage (which refuses requests beyond 15 minutes), of Label Studio (tokens), and of the cluster."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from services import __version__
from services.cli.checks import label_studio, storage
from services.cli.checks.context import Context, Location
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.core.domain import Serving
from services.core.errors import FitloopError
from services.core.faults import brief_of
from services.core.labelstudio.wire import CA_FILE
from services.core.registry import Registry
from services.core.tls import trusting

if TYPE_CHECKING:  # `fitloop local` needs no client of Kubernetes
    from services.cluster.client import Document

_FINE: Final = 3.0
"""A `Date` is in whole seconds, and it takes a moment to come."""

_MUCH: Final = 60.0

_ADVICE: Final = "Set the clocks by NTP (chrony, or the hypervisor's), on the machines of both."


def clock_offset(date: str, whose: str, now: float) -> Finding:
    """How far a `Date` header is from now. Pure."""
    try:
        seconds = parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError):
        return skipped(f"{whose} does not say what time it is.")
    if abs(seconds) <= _FINE:
        return ok(f"The clock of {whose} and the one here agree.")
    sentence = f"The clock of {whose} is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}."
    return warn(sentence, _ADVICE) if abs(seconds) <= _MUCH else fail(sentence, _ADVICE)


def storage_clock(context: Context) -> Finding:
    """Signatures of requests hold the time."""
    if why := storage.reason_to_skip(context):
        return why
    if not context.store.url.startswith("s3://"):
        return skipped("A folder has no clock of its own.")
    s3 = context.settings.s3
    return _asked(s3.endpoint, "the storage", lambda: trusting(s3.ca_file, "FITLOOP_S3_CA_FILE"))


def label_studio_clock(context: Context) -> Finding:
    """Tokens expire, and the newest change of a label is a time of Label Studio's."""
    if why := label_studio.reason_to_skip(context):
        return why
    known = context.settings.label_studio
    return _asked(f"{known.url}/health", "Label Studio", lambda: trusting(known.ca_file, CA_FILE))


def kubernetes_clock(context: Context) -> Finding:
    """The adapters of all nodes change to a new version at one moment."""
    assert context.inspector is not None  # noqa: S101  # for the type checker: asked on a cluster alone
    _, date = context.inspector.version()
    return clock_offset(date, "the Kubernetes API", time.time())


CLOCK_CHECKS: Final = (
    Check("clock: storage", storage_clock),
    Check("clock: label studio", label_studio_clock),
)


def _asked(url: str, whose: str, trust: Callable[[], ssl.SSLContext]) -> Finding:
    try:
        answer = httpx.head(
            url, timeout=5.0, verify=trust() if url.startswith("https:") else False
        )  # no TLS there
    except (httpx.HTTPError, OSError) as error:
        return skipped(
            f"{whose[0].upper()}{whose[1:]} does not answer ({brief_of(error)}).",
            "See the checks above.",
        )
    return clock_offset(answer.headers.get("date", ""), whose, time.time())


_LAG_SECONDS: Final = 3.0
"""Predictors read the table every second."""

_UPGRADE: Final = "Wait until the upgrade is through (`kubectl rollout status`), or finish or roll back the one that is stuck."


def releases(context: Context) -> Finding:
    """Every process is of one release of Fitloop, which is the chart's."""
    assert context.inspector is not None  # noqa: S101  # for the type checker: asked on a cluster alone
    found = context.adapters.releases()
    if not found:
        return fail("No pod of the adapter runs.", "See `kubectl get pods` and `kubectl describe`.")
    named = set(found.values())
    if context.location is Location.POD:
        named.add(__version__)
    kind, _, name = context.settings.cluster.predictor_workload.partition("/")
    workload = context.inspector.kube.get(kind, name) or {}
    chart = (workload.get("metadata", {}).get("labels") or {}).get("app.kubernetes.io/version")
    if len(named) > 1 or (chart and {chart} != named):
        said = ", ".join(sorted(named)) + (f"; the chart is of {chart}" if chart else "")
        return warn(f"Adapters are of release {said}.", _UPGRADE)
    images = {_image(pod) for pod in _predictors(context)}
    if len(images) > 1:
        return warn(f"Predictors run {len(images)} different images: {', '.join(sorted(images))}.", _UPGRADE)
    return ok(f"{len(found)} adapter{'s' if len(found) > 1 else ''} of release {named.pop()}, as the chart.")


def served_versions(context: Context) -> Finding:
    """Predictors know of the newest table, and none refuses a version that is served."""
    if why := storage.reason_to_skip(context):
        return why
    table = Registry(context.store).serving()
    until = time.monotonic() + _LAG_SECONDS
    pods = _predictors(context)
    if not pods:
        return fail("No pod of the predictors runs.", "See `kubectl get pods` and `kubectl describe`.")
    while (problems := _problems(context, pods, table)) and time.monotonic() < until:
        time.sleep(0.5)
        table = Registry(context.store).serving()
    if problems:
        return fail(
            "; ".join(problems) + ".",
            "See these pods' logs; a version that is refused can be rolled back: fitloop rollback.",
        )
    served = sum(one.current is not None for one in table.projects.values())
    return ok(
        f"{len(pods)} predictors know of table {table.term}.{table.generation}, which serves {served} projects."
    )


def predictor_problem(pod: str, state: dict[str, Any], table: Serving, now: float) -> str:
    """What is wrong with a predictor, by its own /state; "" for nothing. Pure."""
    if not state:
        return f"{pod} does not answer"
    if state.get("table") != [table.term, table.generation]:
        return f"{pod} knows of table {'.'.join(map(str, state.get('table') or ()))}, not {table.term}.{table.generation}"
    refused = {
        f"{version} of project {key}: {reason}"
        for key, reasons in (state.get("refused") or {}).items()
        for version, reason in reasons.items()
        if key in table.projects and table.projects[key].at(now) == version
    }
    return f"{pod} refuses {', '.join(sorted(refused))}" if refused else ""


VERSION_CHECKS: Final = (
    Check("releases", releases, needs=("kubernetes",)),
    Check("held versions", served_versions, 30.0, ("kubernetes",)),
)


def _predictors(context: Context) -> list[Document]:
    assert context.inspector is not None  # noqa: S101  # as above
    found = context.inspector.kube.pods(context.settings.cluster.predictor_selector)
    return [
        pod
        for pod in found
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


def _problems(context: Context, pods: list[Document], table: Serving) -> list[str]:
    states = [(str(pod["metadata"]["name"]), _state(context, pod)) for pod in pods]
    return [
        problem for name, state in states if (problem := predictor_problem(name, state, table, time.time()))
    ]


def _state(context: Context, pod: Document) -> dict[str, Any]:
    try:
        found = json.loads(
            context.adapters.fetch(pod, context.settings.cluster.predictor_state_port, "/state")
        )
    except (FitloopError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _image(pod: Document) -> str:
    return str(
        next((one["image"] for one in pod["spec"]["containers"] if one["name"] == "kserve-container"), "")
    )
