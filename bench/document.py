"""docs/benchmarks.md, generated from results only: nothing in it is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence

from bench.result import Result

_TITLES = {
    "loop": "From *Start training* to the new version",
    "latency": "Latency of small requests during training",
    "predict": "Many texts in one request",
    "peers": "Serving beside its peers",
    "memory": "Memory",
    "projects": "Memory of a predictor with many projects",
    "finetune": "Fine-tuning",
    "tuning": "What fine-tuning the last layers gains",
    "gpu": "On a GPU",
    "cluster": "On a cluster",
    "delivery": "Fresh suggestions after a promotion",
    "scale": "Many projects",
    "learning": "Accuracy by labels",
    "multilabel": "Several labels a text",
    "active": "Labels needed, by the order of texts",
    "accuracy": "Accuracy, and the error of its estimate",
}
ORDER = tuple(_TITLES)
_INTRODUCTION = """\
# Benchmarks
Written by `python -m bench --write` from its measurements; do not edit. Absolute figures differ between
machines; ratios within a section were measured in the same run and are more portable. `bench/README.md` describes how to run them.
"""


def document(results: Sequence[Result], earlier: str = "") -> str:
    """Return the whole page, in a fixed order; what `earlier`, the page as it was, says of other benches stays."""
    overview, sections = _parts(earlier)
    for result in results:
        row = table([(result.name, result.sentence, result.goal or "none", verdict(result))])
        overview[result.name] = row.splitlines()[0]
        sections[result.name] = section(result)
    names = [name for name in ORDER if name in sections]
    head = [*table([("what", "measured", "goal", "met")]).splitlines(), *(overview[name] for name in names)]
    return "\n".join([_INTRODUCTION, *head, "", *(sections[name] for name in names)])


def _parts(page: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the overview's rows and the sections of a page, by the benches' names."""
    head, *found = page.split("\n## ")
    rows = {
        line.split(" | ")[0].removeprefix("| "): line for line in head.splitlines() if line.startswith("|")
    }
    names = {title: name for name, title in _TITLES.items()}
    sections = {names.get(text.partition("\n")[0]): f"## {text.strip()}\n" for text in found}
    return rows, {name: text for name, text in sections.items() if name in rows}


def section(result: Result) -> str:
    """Return a bench's part of a page, with the machine that it ran on."""
    lines = [f"## {_TITLES[result.name]}", result.sentence]
    if result.goal:
        lines.append(f"Goal: {result.goal}. Met: {verdict(result)}.")
    if result.rows:
        lines += ["", table(result.rows)]
    for words, rows in result.more.items():
        lines += [words, "", table(rows)]
    if result.how:
        lines.append(result.how)
    if not result.skipped:
        lines.append(f"This took {result.seconds:.0f} s. {result.disturbed}".rstrip())
    if result.machine:
        lines += ["", _machine(result)]
    return "\n".join(lines) + "\n"


def verdict(result: Result) -> str:
    if result.skipped:
        return "skipped"
    return {True: "yes", False: "**no**", None: "–"}[result.met]


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def _machine(result: Result) -> str:
    return "Machine: " + "; ".join(f"{name} {value}" for name, value in result.machine.items()) + "."
