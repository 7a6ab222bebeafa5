"""`fitloop doctor`: why Label Studio does not reach Fitloop, or Fitloop does not reach what it needs.

It runs in an adapter's pod, on a laptop with a kubeconfig, or next to `fitloop local`. It leaves nothing behind: a test object
is deleted again, a Job is validated but not created, a project's title is saved unchanged.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.cli.checks import Check, Context, Finding
    from services.cluster.client import Document, Kube

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_POD_ONLY_SUFFIXES = ("_DIR", "_FILE", "_TEMPLATE", "_NAMESPACE", "_POD_NAME")
"""Variables that describe a pod's own disk, or the pod itself."""


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    url: Annotated[
        str | None,
        typer.Option(help="The URL pasted into Label Studio. Default: the URL of the project's backend."),
    ] = None,
    project: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="A project's id in Label Studio. Repeatable. Default: all that Fitloop knows."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="On a laptop: the kubeconfig file. Default: KUBECONFIG.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="On a laptop: the kubeconfig's context.")] = None,
    namespace: Annotated[str | None, typer.Option(help="On a laptop: the release's namespace.")] = None,
    release: Annotated[
        str | None, typer.Option(help="On a laptop: the release's full name, as in its Deployment.")
    ] = None,
) -> None:
    """Check everything that Fitloop needs. One line each: ok, warn, FAIL or skipped, and what to do."""
    from services.cli.checks import Verdict, run_checks
    from services.core.settings.group import trim

    if kubeconfig:
        os.environ["KUBECONFIG"] = str(kubeconfig)
    is_remote = bool(kubeconfig or context or namespace or release) and not _NAMESPACE_FILE.exists()
    known = _build_context(
        trim(url or ""),
        tuple(project or ()),
        (namespace or "", release or "", context) if is_remote else None,
    )
    findings = []
    for finding in run_checks(checks_of(known), known):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    if as_json:
        rows = [
            {
                "name": one.name,
                "verdict": one.verdict.lower(),
                "sentence": one.message,
                "advice": one.advice,
            }
            for one in findings
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    if any(one.verdict is Verdict.FAIL for one in findings):
        raise typer.Exit(1)


def checks_of(context: Context) -> list[list[Check]]:
    """Return all checks for this location and these projects, in groups that run in parallel."""
    from services.cli.checks import (
        Check,
        access,
        consistency,
        encoders,
        label_studio,
        project,
        reach,
        skipped,
        storage,
        webhook,
    )

    def no_cluster(_: Context) -> Finding:
        return skipped(
            "No cluster was given.",
            "To check one, pass --namespace and --release (and --kubeconfig, --context).",
        )

    groups = [
        [*label_studio.CHECKS, *project.checks(context), webhook.PRIVATE_ADDRESS],
        [*reach.CHECKS, access.CREDENTIALS, reach.BODY_SIZE, access.ANONYMOUS_ACCESS],
        [*storage.CHECKS, encoders.ENCODERS, *consistency.CLOCK_CHECKS],
    ]
    if context.inspector is None:
        return [*groups, [Check("cluster", no_cluster)]]
    from services.cli.checks import cluster  # `fitloop local` works without the Kubernetes client

    return [*groups, [*cluster.CHECKS, *consistency.VERSION_CHECKS]]


def _print_finding(finding: Finding) -> None:
    from services.cli.checks import Verdict

    colours = {
        Verdict.OK: typer.colors.GREEN,
        Verdict.WARN: typer.colors.YELLOW,
        Verdict.FAIL: typer.colors.RED,
    }
    typer.secho(f"{finding.verdict:<8}", fg=colours.get(finding.verdict), nl=False)
    advice = f" -> {finding.advice}" if finding.advice else ""
    typer.echo(f"{finding.name}: {finding.message}{advice}")


def _build_context(
    url: str, projects: tuple[int, ...], remote: tuple[str, str, str | None] | None
) -> Context:
    """Find the location, the projects and the URL to check. Raises BadConfig."""
    from services.cli.checks.label_studio import sole_backend_url

    found = _locate(remote)
    found = replace(found, url=url, projects=projects or _known_projects(found))
    return found if found.url else replace(found, url=sole_backend_url(found) or _default_url(found))


def _locate(remote: tuple[str, str, str | None] | None) -> Context:
    """Build the context of this location. `remote` is a namespace, a release and a context of the kubeconfig."""
    from services.cli.admin import DEFAULT_URL
    from services.cli.checks import Context, Location, login_of
    from services.cli.client import Adapters
    from services.core.settings import Settings
    from services.core.settings.group import trim

    if remote is None and not _NAMESPACE_FILE.exists():
        settings = Settings.load()
        own_url = trim(os.environ.get("FITLOOP_URL", "")).rstrip("/") or DEFAULT_URL
        return Context(settings, Location.MACHINE, "", (), Adapters(own_url, login_of(settings)))
    from services.cluster.client import connect
    from services.cluster.inspect import Inspector

    if remote is None:
        settings = Settings.load()
        kube, location = connect(settings.cluster.namespace), Location.POD
    else:
        namespace, release, kube_context = remote
        kube, location = connect(namespace, kube_context), Location.LAPTOP
        _adopt_settings(kube, release)
        settings = Settings.load()
    inspector, name = Inspector(kube), settings.cluster.release
    adapters = Adapters("", login_of(settings), inspector, name, in_pod=location is Location.POD)
    return Context(settings, location, "", (), adapters, inspector)


def _adopt_settings(kube: Kube, release: str) -> None:
    """Set variables that are unset here as the adapter's Deployment sets them. Reads no Secret."""
    from services.cluster.client import ClusterError

    name = release or os.environ.get("FITLOOP_RELEASE", "fitloop")
    os.environ["FITLOOP_NAMESPACE"], os.environ["FITLOOP_RELEASE"] = kube.namespace, name
    os.environ.setdefault("FITLOOP_LEASE", name)
    try:
        found = kube.get("deployment", name)
    except ClusterError as error:
        typer.secho(f"Deployment {name} cannot be read: {error}", err=True, fg=typer.colors.YELLOW)
        return
    if found is None:
        typer.secho(
            f"There is no Deployment {name} in namespace {kube.namespace}: pass --release and --namespace.",
            err=True,
            fg=typer.colors.YELLOW,
        )
    for variable, value in container_variables(found or {}).items():
        os.environ.setdefault(variable, value)


def container_variables(deployment: Document) -> dict[str, str]:
    """Return the variables of the containers that have a literal value and mean the same outside the pod. Pure."""
    pod = deployment.get("spec", {}).get("template", {}).get("spec", {})
    variables = [one for container in pod.get("containers") or () for one in container.get("env") or ()]
    return {
        str(one["name"]): str(one["value"])
        for one in variables
        if one.get("value") and not str(one["name"]).endswith(_POD_ONLY_SUFFIXES)
    }


def _known_projects(context: Context) -> tuple[int, ...]:
    """Return the adapters' projects; none if they cannot be queried, which a check will report."""
    from services.core.errors import FitloopError

    try:
        rows = context.adapters.get_object("/api/projects").get("projects")
    except FitloopError:
        return ()
    return tuple(int(row["id"]) for row in rows or ())


def _default_url(context: Context) -> str:
    """Return the URL that the chart's notes or `fitloop local` print for Label Studio."""
    from services.cli.checks import Location
    from services.core.errors import FitloopError

    auth, known = context.settings.auth, context.settings.cluster
    secret = f"/{auth.secret_path}" if auth.secret_path else ""
    if context.location is Location.MACHINE:
        return context.adapters.url + secret
    if context.location is Location.LAPTOP:  # where Ingresses can usually be read
        try:
            if ingress := context.kubernetes.ingress_url(known.release):
                return ingress
        except FitloopError:
            pass
    return f"http://{known.release}.{known.namespace}.svc.cluster.local{auth.path_prefix.rstrip('/')}{secret}"
