"""`fitloop suspects`: labels that may be wrong, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.admin import DEFAULT_URL, AsJson, Project, Url, format_table, open_adapter, print_json
from services.cli.report import served_version, shorten
from services.core.errors import FitloopError

if TYPE_CHECKING:
    from services.cli.client import AdapterClient

_MOST_TRIED: Final = 5
"""Versions whose reports are asked for until there is one."""
_UNKNOWN: Final[dict[str, Any]] = {"in_words": "", "advice": "", "url": "", "rows": []}
"""What an adapter of an earlier release does not say."""

Version = Annotated[
    str | None,
    typer.Argument(
        help="A version, as listed by `fitloop versions`. Default: the newest with a report, served or not: it knows what was confirmed.",
    ),
]
ByMargin = Annotated[
    bool,
    typer.Option(
        "--by-margin",
        help="Order by how much more probable the prediction is than the label: better for labels that people confuse.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command("suspects")(suspects)


def suspects(
    project: Project,
    version: Version = None,
    by_margin: ByMargin = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List labels that may be wrong, the least probable first, and a link that opens their tasks."""
    adapter = open_adapter(url)
    report = adapter.report(project, version) if version else _newest_report(adapter, project)
    found = {"version": report["summary"]["version"], **(report.get("suspects") or _UNKNOWN)}
    if by_margin:
        found["rows"].sort(key=lambda row: -row["margin"])
    if as_json:
        print_json(found)
        return
    said = found["in_words"] or "This version does not say: an earlier release of Fitloop made it."
    typer.echo(f"{found['version']}: {said}")
    if found["rows"]:
        head = ["task", "label", "probability", "prediction", "probability", "margin"]
        typer.echo(f"\n{format_table(head, [_cells(row) for row in found['rows']])}\n\n{found['advice']}")
        typer.echo(f"All of these tasks: {found['url']}")


def _newest_report(adapter: AdapterClient, project: int) -> dict[str, Any]:
    """Return the newest report of a version that was evaluated. Raises BadRequest without a version, FitloopError without a report."""
    shown = adapter.project(project)
    served = served_version(shown)
    versions = [row for row in shown["versions"] if row.get("method") != "zero-shot"]
    problems = []
    for name in [str(row["version"]) for row in versions[:_MOST_TRIED]] or [served]:
        try:
            return adapter.report(project, name)
        except FitloopError as error:
            problems.append(error)
    raise problems[0]


def _cells(row: dict[str, Any]) -> list[str]:
    shares = [f"{100 * row[name]:.0f} %" for name in ("probability", "other_probability", "margin")]
    return [str(row["task"]), shorten(row["label"]), shares[0], shorten(row["prediction"]), *shares[1:]]
