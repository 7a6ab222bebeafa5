"""Whether processes agree: their clocks, their releases, and the versions that predictors serve."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from services import __version__
from services.cli.checks import (
    Check,
    Context,
    Finding,
    Location,
    fail,
    label_studio,
    ok,
    skipped,
    storage,
    warn,
)
from services.core.domain import Serving
from services.core.errors import FitloopError
from services.core.http.faults import client_ssl_context, describe_fault_briefly
from services.core.labelstudio.transport import CA_FILE
from services.core.registry import Registry

if TYPE_CHECKING:  # `fitloop local` works without the Kubernetes client
    from services.cluster.client import Document

_GOOD_SECONDS: Final = 3.0
"""A `Date` header has whole seconds and takes a moment to arrive."""
_BAD_SECONDS: Final = 60.0
_SYNC_CLOCKS: Final = "Sync the clocks of both machines with NTP (chrony, or the hypervisor's)."
_LAG_SECONDS: Final = 3.0
"""Predictors read the serving table twice a second."""
_FINISH_UPGRADE: Final = (
    "Wait for the upgrade to finish (`kubectl rollout status`), or finish or roll back the one that is stuck."
)
_SEE_PODS: Final = "See `kubectl get pods` and `kubectl describe`."


def clock_offset(date: str, whose: str, now: float) -> Finding:
    """Compare a `Date` header with `now`. Pure."""
    try:
        seconds = parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError):
        return skipped(f"{whose[0].upper()}{whose[1:]} sends no valid Date header.")
    if abs(seconds) <= _GOOD_SECONDS:
        return ok(f"The clocks of {whose} and of this machine agree.")
    message = f"The clock of {whose} is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}."
    return warn(message, _SYNC_CLOCKS) if abs(seconds) <= _BAD_SECONDS else fail(message, _SYNC_CLOCKS)


def storage_clock(context: Context) -> Finding:
    """Check the storage's clock: it refuses signed requests that are more than 15 minutes off."""
    if skip := storage.reason_to_skip(context):
        return skip
    if not context.store.url.startswith("s3://"):
        return skipped("A folder has no clock of its own.")
    s3 = context.settings.s3
    return _server_clock(
        s3.endpoint, "the storage", lambda: client_ssl_context(s3.ca_file, "FITLOOP_S3_CA_FILE")
    )


def label_studio_clock(context: Context) -> Finding:
    """Check Label Studio's clock: tokens expire by it, and it dates the changes of labels."""
    if skip := label_studio.reason_to_skip(context):
        return skip
    known = context.settings.label_studio
    return _server_clock(
        f"{known.url}/health", "Label Studio", lambda: client_ssl_context(known.ca_file, CA_FILE)
    )


def kubernetes_clock(context: Context) -> Finding:
    """Check the cluster's clock: all adapters change to a new version at one moment."""
    _, date = context.kubernetes.version()
    return clock_offset(date, "the Kubernetes API", time.time())


def releases(context: Context) -> Finding:
    """Check that every process runs the chart's release of Fitloop."""
    by_pod = context.adapters.releases()
    if not by_pod:
        return fail("No adapter pod is running.", _SEE_PODS)
    running = set(by_pod.values())
    if context.location is Location.POD:
        running.add(__version__)
    kind, _, name = context.settings.cluster.predictor_workload.partition("/")
    workload = context.kubernetes.kube.get(kind, name) or {}
    chart = (workload.get("metadata", {}).get("labels") or {}).get("app.kubernetes.io/version")
    if len(running) > 1 or (chart and {chart} != running):
        of_chart = f", but the chart is release {chart}" if chart else ""
        return warn(f"Adapters run release {', '.join(sorted(running))}{of_chart}.", _FINISH_UPGRADE)
    images = {_image(pod) for pod in _predictors(context)}
    if len(images) > 1:
        return warn(
            f"Predictors run {len(images)} different images: {', '.join(sorted(images))}.", _FINISH_UPGRADE
        )
    (release,), one = running, len(by_pod) == 1
    return ok(
        f"{len(by_pod)} {'adapter runs' if one else 'adapters run'} release {release}, as does the chart."
    )


def served_versions(context: Context) -> Finding:
    """Check that predictors have read the newest serving table, and that none refuses a served version."""
    if skip := storage.reason_to_skip(context):
        return skip
    table = Registry(context.store).serving()
    deadline = time.monotonic() + _LAG_SECONDS
    pods = _predictors(context)
    if not pods:
        return fail("No predictor pod is running.", _SEE_PODS)
    while (problems := _problems(context, pods, table)) and time.monotonic() < deadline:
        time.sleep(0.5)
        table = Registry(context.store).serving()
    if problems:
        return fail(
            "; ".join(problems) + ".",
            "See the logs of these pods. To replace a refused version: `fitloop rollback`.",
        )
    served = sum(one.current is not None for one in table.projects.values())
    return ok(
        f"{_count(len(pods), 'predictor')} up to date with table {table.term}.{table.generation}, which serves "
        f"{_count(served, 'project')}."
    )


def predictor_problem(pod: str, state: dict[str, Any], table: Serving, now: float) -> str:
    """Return what a predictor's own /state reveals to be wrong, or "". Pure."""
    if not state:
        return f"{pod} does not answer"
    if state.get("table") != [table.term, table.generation]:
        known = ".".join(map(str, state.get("table") or ()))
        has_read = f"has read table {known}, not" if known else "has not yet read table"
        return f"{pod} {has_read} {table.term}.{table.generation}"
    refused = {
        f"{version} of project {key}: {reason}"
        for key, reasons in (state.get("refused") or {}).items()
        for version, reason in reasons.items()
        if key in table.projects and table.projects[key].effective_version(now) == version
    }
    return f"{pod} refuses {', '.join(sorted(refused))}" if refused else ""


CLOCK_CHECKS: Final = (
    Check("clock: storage", storage_clock),
    Check("clock: label studio", label_studio_clock),
)
VERSION_CHECKS: Final = (
    Check("releases", releases, needs=("kubernetes",)),
    Check("held versions", served_versions, 30.0, ("kubernetes",)),
)


def _server_clock(url: str, whose: str, trust: Callable[[], ssl.SSLContext]) -> Finding:
    try:
        answer = httpx.head(url, timeout=5.0, verify=trust() if url.startswith("https:") else False)
    except (httpx.HTTPError, OSError) as error:
        return skipped(
            f"{whose[0].upper()}{whose[1:]} does not answer ({describe_fault_briefly(error)}).",
            "See the checks above.",
        )
    return clock_offset(answer.headers.get("date", ""), whose, time.time())


def _predictors(context: Context) -> list[Document]:
    found = context.kubernetes.kube.pods(context.settings.cluster.predictor_selector)
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
    port = context.settings.cluster.predictor_state_port
    try:
        found = json.loads(context.adapters.fetch(pod, port, "/state"))
    except (FitloopError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _image(pod: Document) -> str:
    containers = pod["spec"]["containers"]
    return str(next((one["image"] for one in containers if one["name"] == "kserve-container"), ""))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
