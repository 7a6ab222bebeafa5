"""The cluster: the adapter has its rights, and Jobs, predictors and the Lease are in order."""

from __future__ import annotations

import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import yaml

from services.cli.checks import Check, Context, Finding, Location, fail, ok, skipped, warn
from services.cli.checks.consistency import kubernetes_clock
from services.cluster.client import Document
from services.cluster.job_status import ended_at, failure_reason, is_finished, outcome_of, waiting_reason
from services.cluster.job_template import (
    CONTAINER,
    PROJECT_LABEL,
    RELEASE_LABEL,
    RUN_LABEL,
    dry_run,
    load_template,
    problem_of,
)
from services.core.domain import RunState
from services.core.errors import BadConfig
from services.core.settings.contradictions import contradictions

_RECENT_SECONDS: Final = 86_400.0
_ROLE: Final = "Use the chart's Role (rbac.create=true), or add what is missing to your own."
_RIGHTS: Final = (
    ("jobs.batch", ("create", "get", "list", "watch", "delete")),
    ("pods", ("get", "list", "watch")),
    ("events.events.k8s.io", ("create", "patch")),
)
_RIGHTS_BY_NAME: Final = {
    "lease": ("leases.coordination.k8s.io", ("get", "update")),
    "inferenceservice": ("inferenceservices.serving.kserve.io", ("get", "patch")),
    "deployment": ("deployments.apps", ("get", "patch")),
}


def api(context: Context) -> Finding:
    version, _ = context.kubernetes.version()
    return ok(f"Kubernetes {version} answers; namespace {context.kubernetes.kube.namespace}.")


def settings(context: Context) -> Finding:
    """Check the relations between settings without which an adapter refuses to start."""
    if problems := contradictions(context.settings):
        return fail("; ".join(problems) + ".", "An adapter with these settings exits with 78.")
    return ok("The adapters' settings do not contradict each other.")


def rights(context: Context) -> Finding:
    """Check the rights of the adapter's service account: a pod queries its own, a laptop those of the account."""
    account = "" if context.location is Location.POD else f"{context.settings.cluster.release}-adapter"
    missing = [
        f"{verb} {resource}{f' {name}' if name else ''}"
        for resource, verbs, name in _required_rights(context)
        for verb in verbs
        if not context.kubernetes.is_allowed(verb, resource, name, account)
    ]
    if missing:
        return fail(f"The adapter's service account lacks rights: {', '.join(missing)}.", _ROLE)
    return ok("The adapter's service account has all the rights it needs.")


def job(context: Context) -> Finding:
    """Let Kubernetes validate a run's Job without creating it."""
    url = context.settings.storage.store or "s3://bucket"
    dry_run(context.kubernetes.kube, _template(context), context.settings.cluster.release, url)
    return ok("Kubernetes would accept a run's Job.")


def gpu(context: Context) -> Finding:
    """Check that a node has the GPUs that a run's pod requests."""
    wanted = requested_gpus(_template(context))
    if not wanted:
        return ok("Runs request no GPU.")
    gpus = " and ".join(f"{count} {name}" for name, count in wanted.items())
    if context.location is Location.POD:
        known = context.settings.cluster
        return skipped(
            f"Runs request {gpus}, but pods may not list nodes.",
            f"On a laptop: fitloop doctor --namespace {known.namespace} --release {known.release}.",
        )
    selector = _pod_spec(_template(context)).get("nodeSelector") or {}
    if any(_offers(node, wanted, selector) for node in context.kubernetes.nodes()):
        return ok(f"A node has the {gpus} that runs request.")
    return fail(
        f"No node has {gpus}{' and the labels of trainer.nodeSelector' if selector else ''}: runs will wait forever.",
        "Add a GPU node and its device plugin, or set trainer.gpus=0 and trainer.allowCpu=true.",
    )


def predictors(context: Context) -> Finding:
    """Check that KServe, or the plain Deployment, reports the predictors as ready."""
    kind, _, name = context.settings.cluster.predictor_workload.partition("/")
    found = context.kubernetes.kube.get(kind, name)
    if found is None:
        return fail(
            f"The {kind} {name} does not exist.",
            "Install the chart (and KServe, unless kserve.enabled=false), or correct --release.",
        )
    return _ready(found, kind, name)


def lease(context: Context) -> Finding:
    """Check that an adapter holds the Lease and renews it."""
    name = context.settings.cluster.lease
    found = context.kubernetes.kube.get("lease", name)
    spec = (found or {}).get("spec") or {}
    holder = str(spec.get("holderIdentity") or "")
    if not holder:
        return fail(
            f"No adapter holds the Lease {name}, so no run starts.",
            "See the adapters' logs: `kubectl logs deploy/<release>`.",
        )
    _, date = context.kubernetes.version()
    age = parsedate_to_datetime(date).timestamp() - datetime.fromisoformat(str(spec["renewTime"])).timestamp()
    if age > float(spec.get("leaseDurationSeconds") or 15):
        return fail(
            f"The Lease {name} was last renewed {age:.0f} s ago, by {holder}.",
            "See the adapters' logs, and check their clocks.",
        )
    return ok(f"{holder.rpartition('_')[0]} leads.")


def runs(context: Context) -> Finding:
    """Report runs that are waiting, and a project's last run if it failed."""
    kube = context.kubernetes.kube
    selector = f"{RELEASE_LABEL}={context.settings.cluster.release},{RUN_LABEL}"
    jobs, _ = kube.items("job", selector)
    pods, now = kube.pods(selector), time.time()
    problems = []
    for job in latest_jobs(jobs):
        name, run = job["metadata"]["name"], job["metadata"]["labels"].get(RUN_LABEL)
        own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(RUN_LABEL) == run]
        if not is_finished(job) and (reason := waiting_reason(job, own, now)):
            problems.append(f"{name} is waiting: {reason}")
        if outcome_of(job) is RunState.FAILED and now - ended_at(job) < _RECENT_SECONDS:
            problems.append(f"{name} failed: {failure_reason(job)}")
    if problems:
        return warn(
            "; ".join(problems) + ".", "`fitloop status <project>` shows what the run itself reported."
        )
    active = sum(not is_finished(job) for job in jobs)
    return ok(
        f"{active or 'No'} run{'s' if active > 1 else ''} active; none is waiting, and the latest ones did not fail."
    )


def requested_gpus(template: Document) -> dict[str, int]:
    """Return the devices that a run's pod requests, by resource; device names have a domain. Pure."""
    (trainer,) = (one for one in _pod_spec(template)["containers"] if one.get("name") == CONTAINER)
    limits = (trainer.get("resources") or {}).get("limits") or {}
    return {name: int(count) for name, count in limits.items() if "/" in name and int(count)}


def latest_jobs(jobs: list[Document]) -> list[Document]:
    """Return the latest Job of each project. Pure."""
    last: dict[str, Document] = {}
    for one in sorted(jobs, key=lambda job: str(job["metadata"].get("creationTimestamp"))):
        last[one["metadata"]["labels"].get(PROJECT_LABEL, "")] = one
    return list(last.values())


_API: Final = ("kubernetes",)
CHECKS: Final = (
    Check("settings", settings),
    Check("kubernetes", api),
    Check("clock: kubernetes", kubernetes_clock, needs=_API),
    Check("rights", rights, 30.0, _API),
    Check("job", job, 25.0, _API),
    Check("gpu", gpu, needs=_API),
    Check("predictors", predictors, needs=_API),
    Check("lease", lease, needs=_API),
    Check("runs", runs, needs=_API),
)


def _required_rights(context: Context) -> list[tuple[str, tuple[str, ...], str]]:
    known = context.settings.cluster
    kind, _, name = known.predictor_workload.partition("/")
    named = [("lease", known.lease), (kind, name)]
    return [
        *((resource, verbs, "") for resource, verbs in _RIGHTS),
        *((*_RIGHTS_BY_NAME[kind], name) for kind, name in named),
    ]


def _template(context: Context) -> Document:
    """Read the Job's template from the mounted file, or from its ConfigMap on a laptop. Raises BadConfig, ClusterError."""
    if context.location is Location.POD:
        return load_template(Path(context.settings.cluster.job_template))
    name = f"{context.settings.cluster.release}-job"
    try:
        found = yaml.safe_load(context.kubernetes.config_map(name).get("job.yaml", ""))
    except yaml.YAMLError as error:
        raise BadConfig(f"ConfigMap {name} has no valid YAML under job.yaml.") from error
    if problem := problem_of(found):
        raise BadConfig(f"The manifest of a run's Job (ConfigMap {name}) cannot be used: {problem}.")
    return dict(found)


def _pod_spec(template: Document) -> Document:
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
        " ".join(str(wanted[key]) for key in ("reason", "message") if wanted.get(key))
        or "no status reported yet"
    )
    return fail(
        f"The {kind} {name} is not ready: {why.rstrip('.')}.",
        f"See `kubectl describe {kind} {name}`, and its pods.",
    )
