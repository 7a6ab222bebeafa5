"""The cluster: that it lets the adapter do its work, and that Jobs, predictors and the Lease are as they should be."""

from __future__ import annotations

import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import yaml

from services.cli.checks.consistency import kubernetes_clock
from services.cli.checks.context import Context, Location
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.cluster.client import Document
from services.cluster.inspect import Inspector
from services.cluster.reading import ended_at, is_over, outcome_of, waiting_for, why_failed
from services.cluster.template import CONTAINER, PROJECT, RELEASE, RUN, load_template, problem_of, rehearse
from services.core.domain import RunState
from services.core.errors import BadConfig

_RECENT_SECONDS: Final = 86_400.0
_ROLE: Final = "Use the chart's Role (rbac.create=true), or add the right to your own."
_RIGHTS: Final = (
    ("jobs.batch", ("create", "get", "list", "watch", "delete")),
    ("pods", ("get", "list", "watch")),
    ("events.events.k8s.io", ("create", "patch")),
)
_OF_NAMED: Final = {
    "lease": ("leases.coordination.k8s.io", ("get", "update")),
    "inferenceservice": ("inferenceservices.serving.kserve.io", ("get", "patch")),
    "deployment": ("deployments.apps", ("get", "patch")),
}


def api(context: Context) -> Finding:
    """It answers."""
    version, _ = _inspector(context).version()
    return ok(f"Kubernetes {version} answers; namespace {_inspector(context).kube.namespace}.")


def rights(context: Context) -> Finding:
    """What the adapter's service account may: asked of itself in a pod, about it from a laptop."""
    account = "" if context.location is Location.POD else f"{context.settings.cluster.release}-adapter"
    missing = [
        f"{verb} {resource}{f' {name}' if name else ''}"
        for resource, verbs, name in _wanted(context)
        for verb in verbs
        if not _inspector(context).may(verb, resource, name, account)
    ]
    if missing:
        return fail(f"The adapter's service account may not: {', '.join(missing)}.", _ROLE)
    return ok("The adapter's service account has the rights that it needs.")


def job(context: Context) -> Finding:
    """Kubernetes judges a run's Job, which it does not keep."""
    url = context.settings.storage.store or "s3://bucket"
    rehearse(_inspector(context).kube, _template(context), context.settings.cluster.release, url)
    return ok("Kubernetes would take a run's Job.")


def gpu(context: Context) -> Finding:
    """A node has what a run's pod asks for."""
    wanted = requested_gpus(_template(context))
    if not wanted:
        return ok("A run asks for no GPU.")
    said = " and ".join(f"{count} {name}" for name, count in wanted.items())
    if context.location is Location.POD:
        return skipped(
            f"A run asks for {said}; pods have no right to look at nodes.", _from_a_laptop(context)
        )
    selector = _pod_of(_template(context)).get("nodeSelector") or {}
    if any(_offers(node, wanted, selector) for node in _inspector(context).nodes()):
        return ok(f"A node offers the {said} that a run asks for.")
    return fail(
        f"No node offers {said}{' with the labels of trainer.nodeSelector' if selector else ''}: runs will wait for ever.",
        "Add a GPU node and its device plugin, or set trainer.gpus=0 and trainer.allowCpu=true.",
    )


def predictors(context: Context) -> Finding:
    """KServe, or the plain Deployment, says that they serve."""
    kind, _, name = context.settings.cluster.predictor_workload.partition("/")
    found = _inspector(context).kube.get(kind, name)
    if found is None:
        return fail(
            f"There is no {kind} {name}.",
            "Install the chart (and KServe, unless kserve.enabled=false), or correct --release.",
        )
    return _ready(found, kind, name)


def lease(context: Context) -> Finding:
    """One adapter leads, and renews it."""
    name = context.settings.cluster.lease
    found = _inspector(context).kube.get("lease", name)
    spec = (found or {}).get("spec") or {}
    holder = str(spec.get("holderIdentity") or "")
    if not holder:
        return fail(
            f"Nobody holds the Lease {name}: no run begins.",
            "See the adapters' logs: `kubectl logs deploy/<release>`.",
        )
    _, date = _inspector(context).version()
    age = parsedate_to_datetime(date).timestamp() - datetime.fromisoformat(str(spec["renewTime"])).timestamp()
    if age > float(spec.get("leaseDurationSeconds") or 15):
        return fail(
            f"The Lease {name} was last renewed {age:.0f} s ago, by {holder}.",
            "See the adapters' logs, and their clocks.",
        )
    return ok(f"{holder.rpartition('_')[0]} leads.")


def runs(context: Context) -> Finding:
    """What waits, and what failed last."""
    kube, selector = _inspector(context).kube, f"{RELEASE}={context.settings.cluster.release},{RUN}"
    jobs, _ = kube.items("job", selector)
    pods, now = kube.pods(selector), time.time()
    said = []
    for one in latest_jobs(jobs):
        name, own = one["metadata"]["name"], [pod for pod in pods if _is_of(pod, one)]
        if not is_over(one) and (reason := waiting_for(one, own, now)):
            said.append(f"{name} waits: {reason}")
        if outcome_of(one) is RunState.FAILED and now - ended_at(one) < _RECENT_SECONDS:
            said.append(f"{name} failed: {why_failed(one)}")
    if said:
        return warn("; ".join(said) + ".", "`fitloop status <project>` shows the run's own last words.")
    active = sum(not is_over(one) for one in jobs)
    return ok(
        f"{active or 'No'} run{'s' if active > 1 else ''} at work; none waits, and the last ones did not fail."
    )


def requested_gpus(template: Document) -> dict[str, int]:
    """Whole devices that a run's pod asks for, by resource: names of devices have a domain. Pure."""
    (trainer,) = (one for one in _pod_of(template)["containers"] if one.get("name") == CONTAINER)
    limits = (trainer.get("resources") or {}).get("limits") or {}
    return {name: int(count) for name, count in limits.items() if "/" in name and int(count)}


def latest_jobs(jobs: list[Document]) -> list[Document]:
    """The last Job of each project: what came of earlier ones is over and done with. Pure."""
    last: dict[str, Document] = {}
    for one in sorted(jobs, key=lambda job: str(job["metadata"].get("creationTimestamp"))):
        last[one["metadata"]["labels"].get(PROJECT, "")] = one
    return list(last.values())


_API: Final = ("kubernetes",)
CHECKS: Final = (
    Check("kubernetes", api),
    Check("clock: kubernetes", kubernetes_clock, needs=_API),
    Check("rights", rights, 30.0, _API),
    Check("job", job, 25.0, _API),
    Check("gpu", gpu, needs=_API),
    Check("predictors", predictors, needs=_API),
    Check("lease", lease, needs=_API),
    Check("runs", runs, needs=_API),
)


def _inspector(context: Context) -> Inspector:
    assert context.inspector is not None  # noqa: S101  # for the type checker: these are asked on a cluster alone
    return context.inspector


def _wanted(context: Context) -> list[tuple[str, tuple[str, ...], str]]:
    known = context.settings.cluster
    kind, _, name = known.predictor_workload.partition("/")
    named = [("lease", known.lease), (kind, name)]
    return [
        *((resource, verbs, "") for resource, verbs in _RIGHTS),
        *((*_OF_NAMED[kind], name) for kind, name in named),
    ]


def _template(context: Context) -> Document:
    """The mounted file, or its ConfigMap from a laptop. Raises BadConfig, ClusterError."""
    if context.location is Location.POD:
        return load_template(Path(context.settings.cluster.job_template))
    name = f"{context.settings.cluster.release}-job"
    try:
        found = yaml.safe_load(_inspector(context).config_map(name).get("job.yaml", ""))
    except yaml.YAMLError as error:
        raise BadConfig(f"The ConfigMap {name} holds no YAML under job.yaml.") from error
    if problem := problem_of(found):
        raise BadConfig(f"The manifest of a run's Job (ConfigMap {name}) cannot be used: {problem}.")
    return dict(found)


def _pod_of(template: Document) -> Document:
    return dict(template["spec"]["template"]["spec"])


def _offers(node: Document, wanted: dict[str, int], selector: dict[str, str]) -> bool:
    has = node["status"].get("allocatable") or {}
    labels = node["metadata"].get("labels") or {}
    is_fit = not (node.get("spec") or {}).get("unschedulable")
    return (
        is_fit
        and all(int(has.get(name, 0)) >= count for name, count in wanted.items())
        and selector.items() <= labels.items()
    )


def _ready(found: Document, kind: str, name: str) -> Finding:
    status = found.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    wanted = conditions.get("Ready" if kind == "inferenceservice" else "Available") or {}
    if wanted.get("status") == "True":
        return ok(f"The {kind} {name} is ready.")
    why = (
        " ".join(str(wanted.get(key)) for key in ("reason", "message") if wanted.get(key))
        or "it has not said so yet"
    )
    return fail(
        f"The {kind} {name} is not ready: {why.rstrip('.')}.",
        f"kubectl describe {kind} {name}, and its pods.",
    )


def _is_of(pod: Document, job: Document) -> bool:
    labels: dict[str, Any] = pod["metadata"].get("labels") or {}
    return bool(labels.get(RUN) == job["metadata"]["labels"].get(RUN))


def _from_a_laptop(context: Context) -> str:
    known = context.settings.cluster
    return f"From a laptop: fitloop doctor --namespace {known.namespace} --release {known.release}."
