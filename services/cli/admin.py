"""`fitloop status`, `versions`, `promote`, …: commands to a running adapter, over HTTP; and how tables are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.core.errors import BadRequest

if TYPE_CHECKING:
    from services.cli.client import AdapterClient

DEFAULT_URL = "http://127.0.0.1:9090"
_GAP = "  "
_EMPTY = "-"
"""An empty cell, so that programs can split columns at blanks."""

Project = Annotated[int, typer.Argument(help="The project's id in Label Studio.", min=1)]
Url = Annotated[str, typer.Option(envvar="FITLOOP_URL", help="URL of the running adapter.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_ACTIONS = {
    "rollback": "Serve the previous version again, and keep it until `unpin`.",
    "unpin": "Let better versions be served again after a rollback or a manual promotion.",
    "cancel": "Cancel the project's active run.",
    "pause": "Pause training: start no more runs for the project.",
    "resume": "Resume training.",
}


def register(app: typer.Typer) -> None:
    for command in (status, versions, encoders, promote, train):
        app.command()(command)
    for action, text in _ACTIONS.items():
        app.command(action, help=text)(_without_body(action))


def status(
    project: Annotated[
        int | None, typer.Argument(help="A project's id in Label Studio. Default: all projects.", min=1)
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show what each project serves, and what it is doing or waiting for."""
    adapter = open_adapter(url)
    rows = adapter.projects() if project is None else [adapter.project(project)]
    if as_json:
        print_json(rows if project is None else rows[0])
    elif not rows:
        typer.echo(f"No project is connected yet. Connect one in Label Studio (Settings > Model) to {url}.")
    else:
        print_table(["project", "title", "serving", "labels", "status"], [_status_row(row) for row in rows])


def versions(project: Project, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List a project's versions, with their accuracy and the gate's decision."""
    rows = open_adapter(url).project(project)["versions"]
    if as_json:
        print_json(rows)
    elif not rows:
        typer.echo(
            f"Project {project} has no version yet. `fitloop status {project}` shows what it is waiting for."
        )
    else:
        head = ["version", "served", "method", "accuracy", "base model", "encoder", "engine", "gate"]
        print_table(head, [_version_row(row) for row in rows])


def encoders(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the encoders in the bucket, with the versions that need each one."""
    rows = open_adapter(url).encoders()
    if as_json:
        print_json(rows)
    elif not rows:
        typer.echo("There is no encoder yet: the first run makes one of its base model.")
    else:
        head = ["encoder", "base model", "engine", "megabytes", "versions", "state"]
        print_table(head, [_encoder_row(row) for row in rows])


def promote(
    project: Project,
    version: Annotated[str, typer.Argument(help="A version, as listed by `fitloop versions`.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Serve a version whatever the gate decided, and keep it until `unpin`."""
    _send(url, project, "promote", {"version": version}, as_json=as_json)


def train(
    project: Project,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A parameter of this run, such as method=finetune. Repeatable.",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Start a run now, or as soon as the active run has ended."""
    _send(url, project, "train", {"parameters": dict(map(_assignment, assignments or []))}, as_json=as_json)


def _without_body(action: str) -> Any:
    def run(project: Project, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
        _send(url, project, action, {}, as_json=as_json)

    return run


def _send(url: str, project: int, action: str, body: dict[str, Any], *, as_json: bool) -> None:
    answer = open_adapter(url).send_command(project, action, body)
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"Queued: {action} project {project}. Follow it with `fitloop status {project}`.")


def open_adapter(url: str) -> AdapterClient:
    """Return a client with the credentials of the environment. Raises BadConfig."""
    from services.cli.client import connect

    return connect(url, os.environ)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadRequest(
            f"--set {text!r} is not an assignment: use --set name=value, such as --set learning_rate=5e-5."
        )
    return name.strip(), value.strip()


def _status_row(row: dict[str, Any]) -> list[str]:
    served, status = row["served"], row["sentence"]
    not_counted = str(row.get("not_counted_in_words") or "").rstrip(".")
    judged = (row.get("figures") or {}).get("judged") or {}
    parts = (
        status,
        "" if not_counted in status else not_counted,
        row["problem"],
        str(judged.get("truncation") or ""),
        str(row.get("forecast_in_words") or ""),  # adapters of earlier releases make none
        str(row.get("estimates_in_words") or ""),  # adapters of earlier releases send none
    )
    return [
        str(row["id"]),
        row["title"],
        f"{served['current'] or 'untrained'}{' (pinned)' if served['pinned'] else ''}",
        str(row["labelled"]),
        ". ".join(part.rstrip(".") for part in parts if part),
    ]


def _version_row(row: dict[str, Any]) -> list[str]:
    served = "pinned" if row.get("pinned") else "yes" if row.get("served") else ""
    reasons = filter(None, (*row["reasons"], row.get("truncation_in_words")))
    gate = " ".join(dict.fromkeys(reasons))  # the gate's reasons may name the truncation too
    encoder = str(row.get("encoder") or "")[:12]  # adapters of earlier releases name none
    if problem := row.get("encoder_problem"):
        gate = f"Cannot be loaded: {problem}. {gate}"
    engine = [str(row.get("base_model") or ""), encoder, str(row.get("engine") or "")]
    return [str(row["version"]), served, str(row["method"]), str(row["right"]), *engine, gate]


def _encoder_row(row: dict[str, Any]) -> list[str]:
    named = ", ".join(row["versions"][:3])
    state = f"{row['problem']} (needed by {named})" if row["problem"] and named else row["problem"]
    state = state or (row["engine_reason"] if row["needed"] else row["why"])
    size = f"{row['size'] / 1e6:.1f}"
    return [row["digest"][:12], row["base_model"], row["engine"], size, str(row["needed"]), state]


def print_json(value: Any) -> None:
    """Print JSON for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a ruled table on a terminal, and plain columns elsewhere."""
    if sys.stdout.isatty():
        _print_ruled(head, rows)
    else:
        typer.echo(format_table(head, rows))


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns without rules, one row a line, never wrapped or cut. Pure."""
    from rich.cells import cell_len

    lines = [
        [" ".join(cell.split()) or _EMPTY for cell in row] for row in ([one.upper() for one in head], *rows)
    ]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _print_ruled(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    ruled = Table(box=box.SIMPLE_HEAD)
    ruled.add_column(head[0], no_wrap=True)  # names are copied from here, so other columns wrap instead
    for title in head[1:]:
        ruled.add_column(title, overflow="fold")
    for row in rows:
        ruled.add_row(*(escape(cell) for cell in row))
    Console().print(ruled)
