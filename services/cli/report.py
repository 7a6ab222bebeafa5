"""`fitloop report`: a version's report in a terminal, as the status page shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import typer

from services.cli.admin import DEFAULT_URL, AsJson, Project, Url, format_table, open_adapter, print_json
from services.core.errors import BadRequest

_MOST_PAIRS: Final = 10
_MOST_VERSIONS: Final = 10
_MOST_LABELS: Final = 20
"""Labels listed; of more the weakest."""
_MOST_TASKS: Final = 20
_LABEL_WIDTH: Final = 48
"""Characters of a label in a table; JSON has all of them."""


Version = Annotated[
    str | None,
    typer.Argument(help="A version, as listed by `fitloop versions`. Default: the one that is served."),
]


def register(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    project: Project,
    version: Version = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a version's report: confusions, labels, reliability, texts, annotators, and what was left out."""
    adapter = open_adapter(url)
    found = adapter.report(project, version or served_version(adapter.project(project)))
    if as_json:
        print_json(found)
    else:
        typer.echo("\n\n".join(report_sections(found)))


def served_version(project: dict[str, Any]) -> str:
    """Return the served version, else the newest. Raises BadRequest if there is none."""
    versions = project["versions"]
    if not versions:
        raise BadRequest(
            f"Project {project['id']} has no version yet. `fitloop status {project['id']}` shows what it is waiting for."
        )
    served = next((row for row in versions if row.get("served")), versions[0])
    return str(served["version"])


def report_sections(found: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the text; a part about which nothing is known is left out. Pure."""
    summary, whole = found["summary"], found["report"]
    yield _section(
        f"{summary['version']} of project {found['project']}, {found['title']}", _headline(summary)
    )
    head = ["version", "texts", "expected", "cross-validated", "gate"]
    yield from _table("Learning curve", head, [_curve_row(row) for row in found["curve"][:_MOST_VERSIONS]])
    yield from _table("Largest confusions", ["label", "predicted as", "texts", "examples"], _pair_rows(found))
    head = ["label", "texts", "evaluated", "precision", "recall", "F1"]
    yield from _table(*_named_labels(whole["per_label"], head))
    if calibration := found["calibration"]:
        rows = [_bin_row(one) for one in calibration["bins"]]
        table = format_table(["probability", "answers", "mean", "correct", "95 % interval"], rows)
        yield _section("Reliability", [calibration["in_words"], table])
    yield from _lines("Texts", [summary["truncation_in_words"], found["cut_in_words"], *_near_lines(found)])
    yield from _lines("Annotators", [found["disagreement_in_words"], *_disagreement_lines(found)])
    yield from _lines("Not trained on", [*found["not_counted_in_words"], *_third_opinion_lines(whole)])
    yield f"Tasks open at {found['task_url']}<task>"


def _headline(summary: dict[str, Any]) -> list[str]:
    """Return both accuracies; a version of an earlier release has the second alone, which the first sentence says then."""
    is_evaluated = summary["expected"] and summary["estimate"]["source"]
    evaluated = f" Cross-validated: {summary['cross_validated']}." if is_evaluated else ""
    accuracy = (
        summary.get("accuracy_in_words") or f"Accuracy: {summary['right']}."
    )  # an adapter of an earlier release
    return [f"{accuracy}{evaluated}", *summary["reasons"]]


def _curve_row(row: dict[str, Any]) -> list[str]:
    return [row["version"], str(row["texts"]), row["expected"], row["evaluated"], row["kind"]]


def _pair_rows(found: dict[str, Any]) -> list[list[str]]:
    rows = []
    for pair in found["confusions"][:_MOST_PAIRS]:
        of = f" of {pair['judged']}" if pair["judged"] else ""
        names = [shorten(pair["true"]), shorten(pair["predicted"])]
        rows.append([*names, f"{pair['texts']}{of}", _listed(pair["tasks"])])
    return rows


def _named_labels(rows: Sequence[dict[str, Any]], head: list[str]) -> tuple[str, list[str], list[list[str]]]:
    """Return title, head and rows of the labels; of many those with the lowest F1."""
    title, shown = "Labels", list(rows)
    if len(rows) > _MOST_LABELS:
        judged = [row for row in rows if not row["note"] and row["f1"] is not None]
        shown = sorted(judged, key=lambda row: row["f1"])[:_MOST_LABELS]
        title = f"The {len(shown)} of {len(rows)} labels with the lowest F1"
    return title, head, [_label_row(row) for row in shown]


def _label_row(row: dict[str, Any]) -> list[str]:
    counts = [shorten(row["label"]), str(row["examples"]), str(row["judged"])]
    if row["note"]:
        return [*counts, row["note"], "", ""]
    f1 = "" if row["f1"] is None else f"{row['f1']:.2f}"
    return [*counts, _percent(row["precision"]), _percent(row["recall"]), f1]


def _bin_row(one: dict[str, Any]) -> list[str]:
    span = f"{100 * one['start']:.0f}–{100 * one['end']:.0f} %"
    interval = f"{100 * one['low']:.0f}–{100 * one['high']:.0f} %"
    return [
        span,
        str(one.get("answers", one.get("texts"))),
        _percent(one["probability"]),
        _percent(one["right"]),
        interval,
    ]


def _near_lines(found: dict[str, Any]) -> list[str]:
    near, labels = found["report"].get("near_duplicates") or {}, found["report"]["labels"]
    pairs = [pair for pair in near.get("pairs", ()) if pair["true"] != pair["other_true"]]
    return [found["near_duplicates_in_words"]] + [
        f"  {pair['task_id']} {shorten(labels[pair['true']])}, {pair['other_task_id']} {shorten(labels[pair['other_true']])}"
        for pair in pairs
    ]


def _disagreement_lines(found: dict[str, Any]) -> list[str]:
    disagreement = found["report"].get("disagreement") or {}
    tasks = disagreement.get("examples") or []
    noun = "task" if len(tasks) == 1 else "tasks"
    return [f"They disagree on {noun} {_listed(tasks)}."] if tasks else []


def _third_opinion_lines(report: dict[str, Any]) -> list[str]:
    tasks = report["third_opinion"]
    total = max(len(tasks), report.get("third_opinions", 0))
    needs = "1 task needs" if total == 1 else f"{total} tasks need"
    return [f"{needs} a third opinion: {_listed(tasks, total)}."] if tasks else []


def _listed(tasks: Sequence[int], total: int = 0) -> str:
    """List tasks; `total`: how many there are, if not all of them are given."""
    left = max(total, len(tasks)) - len(tasks[:_MOST_TASKS])
    more = f" and {left} more" if left else ""
    return ", ".join(map(str, tasks[:_MOST_TASKS])) + more


def _table(title: str, head: list[str], rows: list[list[str]]) -> Iterator[str]:
    if rows:
        yield _section(title, [format_table(head, rows)])


def _lines(title: str, lines: Sequence[str]) -> Iterator[str]:
    if found := [line for line in lines if line]:
        yield _section(title, found)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *lines])


def shorten(label: str) -> str:
    """Return a label as a table shows it. Pure."""
    return label if len(label) <= _LABEL_WIDTH else f"{label[: _LABEL_WIDTH - 1]}…"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
