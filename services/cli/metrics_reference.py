"""Generate docs/metrics.md from the code: `python -m services.cli.metrics_reference [--check] docs/metrics.md`.

The page lists what each module of metrics defines: metrics, and collectors that read a process's state at every scrape.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import ModuleType
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from services.adapter import metrics as adapter
from services.adapter.metrics import exposition, leader_metrics
from services.adapter.metrics.leader_metrics import OTHER
from services.cli.reference import write_or_check
from services.cluster import metrics as cluster
from services.core.telemetry import metrics as core
from services.engine import metrics as engine
from services.mlbackend import metrics as mlbackend
from services.predictor import metrics as predictor

_HEAD: Final = """\
# Metrics

Adapters export metrics at `/metrics` on port 9091, predictors on port 8081, and `fitloop local` on its only port. This page is
generated from the code, where each package defines its metrics in its own `metrics` module: change them there and run
`make docs`.

Each process also exports `process_*` and `python_*` (memory, CPU seconds, open files). Trainers are short-lived and export
nothing: the leader exports what a run reports.

- Known values of a label are exported from the start, at 0. A gauge whose value is unknown is absent. Times are exported as
  timestamps, never 0 and never as an age: an age is `time() - <the timestamp>`.
- `project` is the project's id in Label Studio. No label contains a task's id, a text or a person's name. Projects beyond
  `FITLOOP_METRICS_PROJECTS` (200) share the value `other`: with their sum or the worst of them, so that alerts show that one is affected, and without a
  series where neither makes sense.
- `title`, `version` and `run` have one value at a time per project (a few on a predictor, which keeps several versions
  loaded), so they add no series.
- A counter starts at 0 with its process. Metrics of the leader are absent on followers, so a query over all adapters finds
  them once.
"""
OPEN_LABELS: Final = frozenset({"project", "title", "version", "run"})
"""Labels whose values are not known in advance; the page's introduction explains what bounds them."""
_IMPORTED: Final = (type, CollectorRegistry)
"""Collectable objects that modules of metrics import but do not define."""
_KNOWN_VALUES: Final = {
    ("fitloop_build_info", "component"): tuple(core.Component),
    ("fitloop_runs_finished", "outcome"): leader_metrics.RUN_OUTCOMES,
    ("fitloop_embed_runs_finished", "outcome"): leader_metrics.RUN_OUTCOMES,
    ("fitloop_suggestions_pushed", "source"): leader_metrics.SUGGESTION_SOURCES,
    ("fitloop_gate_decisions", "decision"): tuple(leader_metrics.GATE_KINDS),
    ("fitloop_gate_decisions", "kind"): (*chain(*leader_metrics.GATE_KINDS.values()), OTHER),
}
"""Values of labels whose series exist only once there is a project or a process."""
_UNITS: Final = (
    ("_timestamp_seconds", "seconds since 1970"),
    ("_texts_per_second", "texts per second"),
    ("_seconds", "seconds"),
    ("_seconds_left", "seconds"),
    ("_bytes", "bytes"),
    ("_ratio", "0 to 1"),
    ("_score", "0 to 1"),
    ("_info", "always 1"),
    ("_texts", "texts"),
    ("_tokens", "tokens"),
)


@dataclass(frozen=True, slots=True)
class MetricDoc:
    """A metric, under the name used in queries, without the suffixes of a histogram's series."""

    name: str
    kind: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label names with their possible values; () for one of OPEN_LABELS."""

    @property
    def unit(self) -> str:
        base = self.name.removesuffix("_total")
        return next((unit for ending, unit in _UNITS if base.endswith(ending)), "number")


def sections() -> dict[str, list[MetricDoc]]:
    """Return all metrics, by the processes that export them."""
    return {
        "Every process": _of_module(core),
        "Every adapter": [*_of_module(adapter), _gauge(exposition.SERVED_VERSION, {})],
        "The leader": [*_of_leader()],
        "Every adapter on a cluster": _of_module(cluster),
        "Predictors": _of_module(predictor),
        "Predictors: the engine": _of_module(engine),
        "Predictors: model classes": _of_module(mlbackend),
    }


_ALSO_LOCAL: Final = "`fitloop local` exports them too."
_NOTES: Final = {
    "The leader": "`fitloop local` always leads.",
    "Predictors": _ALSO_LOCAL,
    "Predictors: the engine": _ALSO_LOCAL,
}


def reference() -> str:
    """Return the page in Markdown, with a table for each kind of process."""
    return "\n".join([_HEAD, *(_section(title, found) for title, found in sections().items())])


def _of_leader() -> Iterator[MetricDoc]:
    yield _gauge(exposition.PROJECT_COUNT, {})
    yield _gauge(exposition.RUN_COUNT, {"state": tuple(state.value for state in exposition.ACTIVE_STATES)})
    for gauge in exposition.PROJECT_GAUGES:
        yield MetricDoc(gauge.name, "gauge", gauge.help, {"project": (), **gauge.labels})
    for counted in leader_metrics.LEADER_METRICS:
        yield from _describe(counted)


def _of_module(module: ModuleType) -> list[MetricDoc]:
    """Return the metrics that the module defines."""
    found = [
        one for one in vars(module).values() if hasattr(one, "collect") and not isinstance(one, _IMPORTED)
    ]
    return [described for one in found for described in _describe(one)]


def _describe(collector: Any) -> Iterator[MetricDoc]:
    metrics: Iterable[Metric] = collector.collect()
    for metric in metrics:
        names: Iterable[str] = getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ())
        ending = "_total" if metric.type == "counter" else ""
        labels = {name: _values(metric, name) for name in names}
        yield MetricDoc(f"{metric.name}{ending}", metric.type, metric.documentation, labels)


def _values(metric: Metric, label: str) -> tuple[str, ...]:
    if label in OPEN_LABELS:
        return ()
    if known := _KNOWN_VALUES.get((metric.name, label)):
        return known
    found = [sample.labels[label] for sample in metric.samples if label in sample.labels]
    return tuple(dict.fromkeys(str(value) for value in found))


def _gauge(described: tuple[str, str, tuple[str, ...]], values: Mapping[str, tuple[str, ...]]) -> MetricDoc:
    name, text, labels = described
    return MetricDoc(name, "gauge", text, {label: values.get(label, ()) for label in labels})


def _section(title: str, found: Iterable[MetricDoc]) -> str:
    rows = [
        f"| `{one.name}` | {one.kind} | {_labels(one.labels)} | {one.unit} | {one.help.replace('|', '')} |"
        for one in found
    ]
    note = [_NOTES[title], ""] if title in _NOTES else []
    head = ["| Metric | Type | Labels | Unit | Meaning |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *note, *head, *rows, ""])


def _labels(labels: Mapping[str, tuple[str, ...]]) -> str:
    cells = (
        f"`{label}`: {', '.join(f'`{value}`' for value in values)}" if values else f"`{label}`"
        for label, values in labels.items()
    )
    return "<br>".join(cells)


def main(arguments: list[str]) -> int:
    return write_or_check(arguments, "services.cli.metrics_reference", "docs/metrics.md", reference)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
