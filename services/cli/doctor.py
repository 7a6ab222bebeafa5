"""`fitloop doctor`: why Label Studio would not reach Fitloop, or Fitloop not Label Studio, before an annotator notices.

It runs in the adapter's pod, on a laptop with a kubeconfig, or beside `fitloop local`. It changes nothing: a probe object
comes and goes, a Job is judged and not kept, a project gets the title that it has. Exit code 1 where a check fails.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.cli.checks.context import Context
    from services.cli.checks.finding import Finding
    from services.cluster.client import Document, Kube
    from services.core.settings import Settings

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_OF_PODS_ALONE = ("_DIR", "_FILE", "_TEMPLATE", "_NAMESPACE", "_POD_NAME")
"""Names of variables that say something of a pod's own disk, or of itself."""


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(
    url: Annotated[
        str | None,
        typer.Option(
            help="The URL that is, or will be, pasted into Label Studio. Default: that of the project's backend."
        ),
    ] = None,
    project: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="A project's id in Label Studio. Repeatable; default: all that Fitloop knows."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="From a laptop: the kubeconfig. Default: KUBECONFIG.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="From a laptop: the kubeconfig's context.")] = None,
    namespace: Annotated[str | None, typer.Option(help="From a laptop: the release's namespace.")] = None,
    release: Annotated[
        str | None, typer.Option(help="From a laptop: the release's full name, as of its Deployment.")
    ] = None,
) -> None:
    """Check everything that Fitloop needs, one line each: ok, warn, FAIL or skipped, and what to do."""
    from services.cli.checks import checks_of
    from services.cli.checks.finding import Verdict, run_checks
    from services.core.settings.values import trimmed

    if kubeconfig:
        os.environ["KUBECONFIG"] = str(kubeconfig)
    is_far = bool(kubeconfig or context or namespace or release) and not _NAMESPACE_FILE.exists()
    known = _context(
        trimmed(url or ""),
        tuple(project or ()),
        (namespace or "", release or "", context) if is_far else None,
    )
    found = []
    for finding in run_checks(checks_of(known), known):
        found.append(finding)
        if not as_json:
            _say(finding)
    if as_json:
        typer.echo(json.dumps([_plain(one) for one in found], indent=2, ensure_ascii=False))
    if any(one.verdict is Verdict.FAIL for one in found):
        raise typer.Exit(1)


def _context(url: str, projects: tuple[int, ...], far: tuple[str, str, str | None] | None) -> Context:
    """Where we are, and what is to be looked at. Raises BadConfig."""
    from dataclasses import replace

    from services.cli.checks.label_studio import sole_backend_url

    found = _locate(far)
    found = replace(found, url=url, projects=projects or _known_projects(found))
    return found if found.url else replace(found, url=sole_backend_url(found) or _default_url(found))


def _locate(far: tuple[str, str, str | None] | None) -> Context:
    from services.cli.admin import DEFAULT_URL
    from services.cli.checks.context import Context, Location
    from services.cli.client import Adapters
    from services.core.settings import Settings
    from services.core.settings.values import trimmed

    if far is None and not _NAMESPACE_FILE.exists():
        settings = Settings.load()
        return Context(
            settings,
            Location.MACHINE,
            "",
            (),
            Adapters(trimmed(os.environ.get("FITLOOP_URL", "")).rstrip("/") or DEFAULT_URL, _login(settings)),
        )
    from services.cluster.client import connect
    from services.cluster.inspect import Inspector

    if far is None:
        settings = Settings.load()
        kube, where = connect(settings.cluster.namespace), Location.POD
    else:
        kube, where = connect(far[0], far[2]), Location.LAPTOP
        _adopt_settings(kube, far[1])
        settings = Settings.load()
    inspector = Inspector(kube)
    adapters = Adapters(
        "", _login(settings), inspector, settings.cluster.release, in_pod=where is Location.POD
    )
    return Context(settings, where, "", (), adapters, inspector)


def _adopt_settings(kube: Kube, release: str) -> None:
    """What the adapter's Deployment tells its pods counts here too, where this environment says nothing; no Secret is read."""
    from services.cluster.client import ClusterError

    name = release or os.environ.get("FITLOOP_RELEASE", "fitloop")
    os.environ["FITLOOP_NAMESPACE"], os.environ["FITLOOP_RELEASE"] = kube.namespace, name
    os.environ.setdefault("FITLOOP_LEASE", name)
    try:
        found = kube.get("deployment", name)
    except ClusterError as error:
        typer.secho(f"The Deployment {name} could not be read: {error}", err=True, fg=typer.colors.YELLOW)
        return
    if found is None:
        typer.secho(
            f"There is no Deployment {name} in namespace {kube.namespace}: say --release and --namespace.",
            err=True,
            fg=typer.colors.YELLOW,
        )
    for variable, value in container_variables(found or {}).items():
        os.environ.setdefault(variable, value)


def container_variables(deployment: Document) -> dict[str, str]:
    """Variables of the adapter's container that are written out and mean the same elsewhere. Pure."""
    pod = deployment.get("spec", {}).get("template", {}).get("spec", {})
    variables = [one for container in pod.get("containers") or () for one in container.get("env") or ()]
    return {
        str(one["name"]): str(one["value"])
        for one in variables
        if one.get("value") and not str(one["name"]).endswith(_OF_PODS_ALONE)
    }


def _known_projects(context: Context) -> tuple[int, ...]:
    """Those that the adapters know; none where they cannot be asked, which a check will tell."""
    from services.core.errors import FitloopError

    try:
        rows = context.adapters.get_object("/api/projects").get("projects")
    except FitloopError:
        return ()
    return tuple(int(row["id"]) for row in rows or ())


def _default_url(context: Context) -> str:
    """The one that is printed for Label Studio by the chart's notes, or by `fitloop local`."""
    from services.cli.checks.context import Location

    auth, known = context.settings.auth, context.settings.cluster
    secret = f"/{auth.secret_path}" if auth.secret_path else ""
    if context.location is Location.MACHINE:
        return context.adapters.url + secret
    return (
        _ingress_url(context)
        or f"http://{known.release}.{known.namespace}.svc.cluster.local{auth.path_prefix.rstrip('/')}{secret}"
    )


def _ingress_url(context: Context) -> str:
    """From a laptop, where rights to Ingresses are usual and the secret path is not known."""
    from services.cli.checks.context import Location
    from services.core.errors import FitloopError

    if context.location is not Location.LAPTOP or context.inspector is None:
        return ""
    try:
        return context.inspector.ingress_url(context.settings.cluster.release)
    except FitloopError:
        return ""


def _login(settings: Settings) -> tuple[str, str] | None:
    password = settings.auth.password.get_secret_value()
    return (settings.auth.username, password) if password else None


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "name": finding.name,
        "verdict": finding.verdict.lower(),
        "sentence": finding.sentence,
        "advice": finding.advice,
    }


def _say(finding: Finding) -> None:
    from services.cli.checks.finding import Verdict

    colours = {
        Verdict.OK: typer.colors.GREEN,
        Verdict.WARN: typer.colors.YELLOW,
        Verdict.FAIL: typer.colors.RED,
    }
    typer.secho(f"{finding.verdict:<8}", fg=colours.get(finding.verdict), nl=False)
    advice = f" -> {finding.advice}" if finding.advice else ""
    typer.echo(f"{finding.name}: {finding.sentence}{advice}")
