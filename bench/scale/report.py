"""The table of figures, and which goals are met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Figures = Mapping[str, Any]
STATE_NAMES = {
    "healthy": "healthy",
    "hanging": "hanging",
    "failing": "answering 500",
    "html": "answering HTML",
    "slow": "slow (5 s)",
    "one project hangs": "hanging for this project alone",
}
GOALS = {
    "ticks": "with 500 projects: ticks p99 at most 250 ms",
    "commands": "commands carried out within 2 s in any state of Label Studio",
    "takeover": "takeover: commands after 3 s, complete after 20 s",
    "memory": "at most 512 MiB with 3 M labelled tasks",
    "rest": "at most 10 requests/s to Label Studio at rest",
    "training": "100 START_TRAINING per second answered",
    "follower": "followers read serving.json every 0.5 s",
}


def rows(found: Mapping[str, Figures]) -> tuple[tuple[str, ...], ...]:
    """Return the table: a row for each measure, a column for each size."""
    table = [("measure", *(f"{name} projects" if name.isdigit() else name for name in found))]
    for title, read in _measures().items():
        cells = [_cell(read, figures) for figures in found.values()]
        if any(cell != "–" for cell in cells):
            table.append((title, *cells))
    return tuple(table)


def sentence(figures: Figures) -> str:
    """Return the most important figures of one size."""
    return (
        f"With 500 projects a tick takes {_tick(figures)} ms (p99, the worst state of Label Studio), a command {_seconds(_worst(figures))} s, "
        f"a takeover {_seconds(figures['takeover: command'])} s until commands and {_seconds(figures['takeover: complete'])} s until it is complete; "
        f"{_memory(figures)} MiB."
    )


def is_met(figures: Figures) -> bool:
    """Return whether every goal is met."""
    return not missed(figures)


def missed(figures: Figures) -> list[str]:
    """Return the names of the goals that are missed."""
    checks: dict[str, bool] = {
        "ticks": _worst_tick(figures) <= 0.25,
        "commands": _worst(figures) <= 2.0,
        "takeover": figures["takeover: command"] <= 3.0 and figures["takeover: complete"] <= 20.0,
        "memory": _memory(figures) <= 512,
        "rest": figures["rest: label studio requests/s"] <= 10.0,
        "training": figures["START_TRAINING: share answered 200 within 1 s"] >= 1.0
        and math.isfinite(figures["START_TRAINING: seconds until handled"]),
        "follower": max(figures[name]["p99"] for name in figures if name.startswith("follower")) <= 0.75,
    }
    return [name for name, good in checks.items() if not good]


def states(figures: Figures, what: str) -> dict[str, Mapping[str, float]]:
    """Return the distributions of `commands` or `ticks` by the state of Label Studio."""
    prefix = f"{what}, "
    return {name.removeprefix(prefix): found for name, found in figures.items() if name.startswith(prefix)}


def _measure(write: Callable[[Any], str], figure: str) -> Callable[[Figures], str]:
    return lambda figures: write(figures[figure])


def _measures() -> dict[str, Callable[[Figures], str]]:
    found: dict[str, Callable[[Figures], str]] = {
        "tick at rest, ms: p50 / p99 / max": lambda figures: _milliseconds(figures["rest: ticks"]),
        "tick while all labels are read for the first time, ms": lambda figures: _milliseconds(
            figures["first read: ticks"]
        ),
        "tick during 100 START_TRAINING/s, ms": lambda figures: _milliseconds(
            figures["START_TRAINING: ticks"]
        ),
    }
    for state, name in STATE_NAMES.items():
        found[f"tick, Label Studio {name}, ms"] = _measure(_milliseconds, f"ticks, {state}")
    for state, name in STATE_NAMES.items():
        found[f"command, Label Studio {name}, s"] = _measure(_spread, f"commands, {state}")
    return {
        **found,
        "event to requested run, s": lambda figures: _spread(figures["event to run requested"]),
        "takeover of 0.1.0's bucket: first command, s": lambda figures: _seconds(
            figures["takeover of 0.1.0: command"]
        ),
        "… complete, s": lambda figures: _seconds(figures["takeover of 0.1.0: complete"]),
        "… requests to the bucket": lambda figures: f"{figures['takeover of 0.1.0: bucket requests']:,}",
        "takeover: first command, s": lambda figures: _seconds(figures["takeover: command"]),
        "takeover: complete, s": lambda figures: _seconds(figures["takeover: complete"]),
        "takeover: requests to the bucket": lambda figures: f"{figures['takeover: bucket requests']:,}",
        "all labels read for the first time, s": lambda figures: _seconds(figures["first read: seconds"]),
        "… old runs read and titles set after that, s": lambda figures: _seconds(
            figures["at rest after: seconds"]
        ),
        "memory of the leader, MiB: after that / at most": lambda figures: "{now} / {most}".format(
            **figures["memory"]
        ),
        "requests/s to Label Studio at rest": lambda figures: (
            f"{figures['rest: label studio requests/s']:.1f}"
        ),
        "requests/s to the bucket at rest": lambda figures: f"{figures['rest: bucket requests/s']:.1f}",
        "cores of the leader at rest": lambda figures: f"{figures['rest: cpu share']:.2f}",
        "START_TRAINING, 100/s: answered within 1 s": lambda figures: (
            f"{100 * figures['START_TRAINING: share answered 200 within 1 s']:.1f} %"
        ),
        "START_TRAINING: bucket requests per command": lambda figures: (
            f"{figures['START_TRAINING: bucket requests per command']:.2f}"
        ),
        "START_TRAINING: inbox empty after, s": lambda figures: _seconds(
            figures["START_TRAINING: seconds until handled"]
        ),
        "follower's reads of serving.json with 100 events/s, s": lambda figures: _spread(
            figures["follower's reads, events"]
        ),
        "… while the bucket's writes hang, s": lambda figures: _spread(
            figures["follower's reads, events, writes hang"]
        ),
    }


def _cell(read: Callable[[Figures], str], figures: Figures) -> str:
    try:
        return read(figures)
    except KeyError:
        return "–"


def _worst_tick(figures: Figures) -> float:
    return max(float(found["p99"]) for found in (figures["rest: ticks"], *states(figures, "ticks").values()))


def _worst(figures: Figures) -> float:
    return max(float(found["most"]) for found in states(figures, "commands").values())


def _tick(figures: Figures) -> str:
    worst = _worst_tick(figures)
    return f"{1000 * worst:.0f}" if math.isfinite(worst) else "?"


def _memory(figures: Figures) -> float:
    return float(figures["memory"]["most"])


def _milliseconds(found: Mapping[str, float]) -> str:
    if not math.isfinite(found["most"]):
        return "none ended"
    return " / ".join(f"{1000 * found[name]:.0f}" for name in ("p50", "p99", "most"))


def _spread(found: Mapping[str, float]) -> str:
    return " / ".join(_seconds(found[name]) for name in ("p50", "p99", "most"))


def _seconds(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "not done"
