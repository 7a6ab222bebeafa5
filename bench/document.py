"""docs/benchmarks.md, generated from results only: nothing in it is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence

from bench.result import Result

_TITLES = {
    "loop": "From *Start training* to the new version",
    "latency": "Latency of small requests during training",
    "predict": "Many texts in one request",
    "memory": "Memory",
    "finetune": "Fine-tuning",
    "cluster": "On a cluster",
    "scale": "Many projects",
    "accuracy": "Accuracy, and the error of its estimate",
}
ORDER = tuple(_TITLES)
_INTRODUCTION = """\
# Benchmarks
Written by `python -m bench --write` from its measurements; do not edit. Absolute figures differ between
machines; ratios within a section were measured in the same run and are more portable. `bench/README.md` describes how to run them.
"""


def document(results: Sequence[Result]) -> str:
    """Return the whole page, in a fixed order."""
    ordered = sorted(results, key=lambda result: ORDER.index(result.name))
    overview = [("what", "measured", "goal", "met")]
    overview += [(result.name, result.sentence, result.goal or "none", verdict(result)) for result in ordered]
    machines = {tuple(result.machine.items()) for result in ordered}
    one = len(machines) == 1
    parts = [_INTRODUCTION, *([_machine(ordered[0])] if one else []), table(overview)]
    parts += [section(result, with_machine=not one) for result in ordered]
    return "\n".join(parts)


def section(result: Result, *, with_machine: bool) -> str:
    lines = [f"## {_TITLES[result.name]}", result.sentence]
    if result.goal:
        lines.append(f"Goal: {result.goal}. Met: {verdict(result)}.")
    if result.rows:
        lines += ["", table(result.rows)]
    if result.how:
        lines.append(result.how)
    if not result.skipped:
        lines.append(f"This took {result.seconds:.0f} s. {result.disturbed}".rstrip())
    if with_machine:
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
    return "Machine: " + "; ".join(f"{name} {value}" for name, value in result.machine.items()) + ".\n"
