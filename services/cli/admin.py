"""`fitloop status`, `versions`, `promote`, …: what people ask of a running adapter, over HTTP with its credentials."""

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

_GAP = "  "

_NOTHING = "-"
"""For an empty cell, so that columns can be told apart by blanks."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print them as whoever reads stdout wants them."""
    if sys.stdout.isatty():
        _ruled(head, rows)
    else:
        typer.echo(format_table(head, rows))


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns without rules, never wrapped or cut. Pure."""
    from rich.cells import cell_len

    lines = [
        [" ".join(cell.split()) or _NOTHING for cell in row] for row in ([one.upper() for one in head], *rows)
    ]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _ruled(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = Table(box=box.SIMPLE_HEAD)
    found.add_column(head[0], no_wrap=True)  # a name that is to be copied; sentences give way
    for title in head[1:]:
        found.add_column(title, overflow="fold")
    for row in rows:
        found.add_row(*(escape(cell) for cell in row))
    Console().print(found)


Project = Annotated[int, typer.Argument(help="The project's id in Label Studio.", min=1)]

Url = Annotated[str, typer.Option(envvar="FITLOOP_URL", help="Address of the running `fitloop local`.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

DEFAULT_URL = "http://127.0.0.1:9090"

_ACTIONS = {
    "rollback": "Serve the version before the current one again, and stay with it until `unpin`.",
    "unpin": "Let better versions be served again after a rollback or a promotion by hand.",
    "cancel": "End the project's active run.",
    "pause": "Start no more runs for the project.",
    "resume": "Start runs again.",
}


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (status, versions, promote, train):
        app.command()(command)
    for action, text in _ACTIONS.items():
        app.command(action, help=text)(_plain_action(action))


def status(
    project: Annotated[
        int | None, typer.Argument(help="A project's id; without it, all of them.", min=1)
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show what each project serves, waits for and does."""
    adapter = _adapter(url)
    rows = adapter.projects() if project is None else [adapter.project(project)]
    if as_json:
        _print_json(rows if project is None else rows[0])
    elif not rows:
        typer.echo(f"No project yet: connect one in Label Studio (Settings > Model) to {url}.")
    else:
        print_table(["project", "title", "serves", "labels", "state"], [_status_row(row) for row in rows])


def versions(project: Project, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List a project's versions, with how often each is right and what the gate said."""
    rows = _adapter(url).project(project)["versions"]
    if as_json:
        _print_json(rows)
    elif not rows:
        typer.echo(
            f"Project {project} has no version yet: `fitloop status {project}` says what it waits for."
        )
    else:
        print_table(["version", "served", "method", "right", "gate"], [_version_row(row) for row in rows])


def promote(
    project: Project,
    version: Annotated[str, typer.Argument(help="A version, as `fitloop versions` lists it.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Serve a version, whatever the gate said, and stay with it until `unpin`."""
    _act(url, project, "promote", {"version": version}, as_json=as_json)


def train(
    project: Project,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of this run, as method=finetune. Repeatable."
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Start a run now; it waits where one is active."""
    _act(url, project, "train", {"parameters": dict(map(_assignment, assignments or []))}, as_json=as_json)


def _plain_action(action: str) -> Any:
    def run(project: Project, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
        _act(url, project, action, {}, as_json=as_json)

    return run


def _act(url: str, project: int, action: str, body: dict[str, Any], *, as_json: bool) -> None:
    answer = _adapter(url).send_command(project, action, body)
    if as_json:
        _print_json(answer)
    else:
        typer.echo(
            f"Taken: {action} of project {project}. `fitloop status {project}` shows what comes of it."
        )


def _adapter(url: str) -> AdapterClient:
    from services.cli.client import connect

    return connect(url, os.environ)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadRequest(
            f"--set {text!r} is no assignment: write --set name=value, as --set learning_rate=5e-5."
        )
    return name.strip(), value.strip()


def _status_row(row: dict[str, Any]) -> list[str]:
    served = row["served"]
    return [
        str(row["id"]),
        row["title"],
        f"{served['current'] or 'untrained'}{' (pinned)' if served['pinned'] else ''}",
        str(row["labelled"]),
        ". ".join(part.rstrip(".") for part in (*_said(row), row["problem"], _cut(row)) if part),
    ]


def _said(row: dict[str, Any]) -> list[str]:
    """The state, and what does not count, unless the state says so already."""
    not_counted = str(row.get("not_counted_in_words") or "").rstrip(".")
    return [row["sentence"], "" if not_counted in row["sentence"] else not_counted]


def _cut(row: dict[str, Any]) -> str:
    """That texts of the newest version were cut."""
    judged = (row.get("figures") or {}).get("judged") or {}
    return str(judged.get("truncation") or "")


def _version_row(row: dict[str, Any]) -> list[str]:
    served = "pinned" if row.get("pinned") else "yes" if row.get("served") else ""
    said = [
        *row["reasons"],
        row.get("truncation_in_words") or "",
    ]  # which the gate may have given as a reason
    reasons = " ".join(dict.fromkeys(filter(None, said)))
    return [str(row["version"]), served, str(row["method"]), str(row["right"]), reasons]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
