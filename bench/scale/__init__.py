"""How a leader copes with many projects: a simulated Label Studio and bucket with set latencies around a real adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.result import Options, Result
from bench.scale.content import Content
from bench.scale.phases import Plan, measure
from bench.scale.report import GOALS, is_met, rows, sentence

if TYPE_CHECKING:
    from bench.rig import Rig

_LABELS, _MANY, _RUNS = 6_000, 1_200, 50
"""Labelled tasks of each project with up to 50 projects, and with 500: reading 3 million for the first time takes ten minutes by itself
(`python -m bench.scale --projects 500 --labels 6000 --only ""`)."""
PLANS = {
    "1": Plan(
        Content(1, _RUNS, _LABELS),
        window=4.0,
        limit=10.0,
        phases=("rest", "again"),
        states=("healthy", "hanging"),
    ),
    "50": Plan(Content(50, _RUNS, _LABELS), window=5.0, limit=10.0, states=("healthy", "hanging")),
    "500": Plan(Content(500, _RUNS, _MANY), limit=15.0),
    "500, bucket 20 ms": Plan(
        Content(500, _RUNS, 200),
        0.02,
        window=8.0,
        limit=15.0,
        phases=("rest", "states", "again"),
        states=("healthy", "hanging"),
    ),
}
"""By the name of the column; `states` are those of Label Studio."""


def run(options: Options, rig: Rig) -> Result:
    """Measure all sizes."""
    del options, rig
    found = {name: measure(plan).figures for name, plan in PLANS.items()}
    return result(found)


def result(found: dict[str, dict[str, object]]) -> Result:
    return Result(
        name="scale",
        rows=rows(found),
        sentence=sentence(found["500"]),
        met=is_met(found["500"]),
        goal="; ".join(GOALS.values()),
        how=_HOW,
        figures=found,
    )


_HOW = (
    f"A bucket (5 ms a request, spoken to by the real S3 client) and a Label Studio (100 ms a request, 500 tasks a page) are "
    f"simulated in processes of their own; the adapter is the real one, but for Kubernetes and the predictors. Each project has "
    f"{_RUNS} runs and {_LABELS:,} labelled tasks ({_MANY:,} with 500 projects, 200 in the last column). The first takeover reads a bucket of release 0.1.0, the second "
    "what the first leader has left. 20 commands in each state of Label Studio, spread over the projects: from stored in the "
    "inbox to in effect in serving.json. Ticks are those of the leader's thread in the same time. All processes share the cores."
)
