"""`fitloop gc`: have the leader delete what is no longer needed, and print its report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.admin import DEFAULT_URL, AsJson, Url, open_adapter, print_json
from services.core.errors import FitloopError

if TYPE_CHECKING:
    from services.cli.client import AdapterClient

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    app.command("gc")(collect_garbage)


def collect_garbage(
    project: Annotated[
        int | None, typer.Argument(help="A project's id in Label Studio. Default: all projects.", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete old versions and runs, checkpoints of ended runs, encoders without versions, and remains of interrupted runs.

    The leading adapter does it, with its own retention settings, as it does after each run. It never deletes what is served, was
    served last, is being rolled out, or is younger than these settings say. An encoder is deleted a day after no version needs it.
    """
    adapter = open_adapter(url)
    command = adapter.collect_garbage(project or 0, dry_run=dry_run)
    report = _wait_for_report(adapter, command)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if report["problem"]:
        raise FitloopError(f"It ended early: {report['problem']} Run `fitloop gc` again.")


def _wait_for_report(adapter: AdapterClient, command: str) -> dict[str, Any]:
    until = time.monotonic() + _WAIT_SECONDS
    while (report := adapter.gc_report(command)) is None:
        if time.monotonic() > until:
            raise FitloopError(
                f"Command {command} is stored, and has not ended within {_WAIT_SECONDS:.0f} s: it continues without this terminal. "
                f"Its report will be at {adapter.url}/api/gc/{command}; if there is none, `fitloop doctor` says whether an adapter leads."
            )
        time.sleep(_POLL_SECONDS)
    return report


def _print_report(report: dict[str, Any]) -> None:
    dry_run = report["dry_run"]
    verb = "would delete" if dry_run else "deleted"
    for stored in report["projects"]:
        _print_project(stored, verb)
    if encoders := report.get("encoders"):  # an adapter of an earlier release reports none
        typer.echo("encoders:")
        _print_leftovers(encoders, verb)
    if report["left_off"]:
        typer.echo(f"… and {report['left_off']} more.")
    typer.echo(f"{_mb(report['freed'])} {'would be freed' if dry_run else 'freed'}.")


def _print_project(stored: dict[str, Any], verb: str) -> None:
    key, sizes = stored["project"], (_mb(stored["versions"]), _mb(stored["runs"]))
    typer.echo(f"project {key} {stored['title']!r}: versions {sizes[0]}, runs {sizes[1]}")
    if stored["orphaned"]:
        typer.echo(f"  kept: {stored['orphaned']}. Delete projects/{key}/ by hand if it is no longer needed.")
    _print_leftovers(stored["leftovers"], verb)


def _print_leftovers(leftovers: list[dict[str, Any]], verb: str) -> None:
    for leftover in leftovers:
        size = _mb(leftover["size"])
        if leftover["kept"]:
            typer.echo(f"  kept: {leftover['name']}, {size}: {leftover['kept']}")
        else:
            typer.echo(f"  {verb}: {leftover['name']}, {size} ({leftover['why']})")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
