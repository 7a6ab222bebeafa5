"""Metrics collected from the board at each scrape: on every adapter its served versions, on the leader the state of all projects.

Followers do not export the leader's series. An unknown value is absent. Projects above the limit share the label
value `other`: with their sum or with the worst of them, and without a series where neither makes sense.
"""

from __future__ import annotations

import operator
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from services.adapter.metrics import leader_metrics
from services.adapter.metrics.estimate_gauges import ESTIMATE_GAUGES
from services.adapter.metrics.gauges import STATE_GAUGES, ProjectGauge
from services.adapter.metrics.help_gauges import HELP_GAUGES
from services.adapter.metrics.run_gauges import RUN_GAUGES
from services.adapter.metrics.version_gauges import VERSION_GAUGES
from services.adapter.state.board import Board, ProjectView, effective_served
from services.core.domain import RunState, Served

PROJECT_GAUGES = (*STATE_GAUGES, *RUN_GAUGES, *VERSION_GAUGES, *ESTIMATE_GAUGES, *HELP_GAUGES)
SERVED_VERSION = (
    "fitloop_served_version_info",
    "1, labelled with the version that this adapter reports to Label Studio; absent if the project serves none.",
    ("project", "version"),
)
PROJECT_COUNT = ("fitloop_projects", "Number of connected projects.", ())
RUN_COUNT = ("fitloop_runs", "Number of active runs, by state.", ("state",))
ACTIVE_STATES = (RunState.WAITING, RunState.RUNNING, RunState.PREEMPTED)
_Views = Sequence[ProjectView]
_Named = Sequence[tuple[str, ProjectView, Served]]
"""Label value, view, and what is in effect now."""


class BoardCollector:
    """Collects the board's metrics."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.time) -> None:
        self._board = board
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        views, now = tuple(self._board.views.values()), self._clock()
        yield _served(views, now)
        if not self._board.is_leader:
            return
        yield _family(PROJECT_COUNT, {(): float(len(views))})
        yield _family(RUN_COUNT, _runs(views))
        named = [
            (leader_metrics.project_names.label_of(view.project.id), view, effective_served(view.served, now))
            for view in views
        ]
        for gauge in PROJECT_GAUGES:
            yield _family((gauge.name, gauge.help, ("project", *gauge.labels)), _series(gauge, named))
        for counted in leader_metrics.LEADER_METRICS:
            yield from counted.collect()


class ProcessCollector:
    """Collects all metrics of this process: the registry's and the board's."""

    def __init__(self, board_collector: BoardCollector) -> None:
        self._board_collector = board_collector

    def collect(self) -> Iterator[Metric]:
        yield from REGISTRY.collect()
        yield from self._board_collector.collect()


def _family(
    described: tuple[str, str, tuple[str, ...]], series: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    name, text, labels = described
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in series.items():
        family.add_metric(values, value)
    return family


def _served(views: _Views, now: float) -> GaugeMetricFamily:
    named = (
        (leader_metrics.project_names.label_of(view.project.id), view.served.effective_version(now))
        for view in views
    )
    return _family(
        SERVED_VERSION,
        {(name, version): 1.0 for name, version in named if version and name != leader_metrics.OTHER},
    )


def _runs(views: _Views) -> dict[tuple[str, ...], float]:
    found = Counter(view.active.state for view in views if view.active)
    return {(state.value,): float(found[state]) for state in ACTIVE_STATES}


def _series(gauge: ProjectGauge, named: _Named) -> dict[tuple[str, ...], float]:
    """Return values by labels; those of projects that share `other` are summed up, or the worst of them, or omitted."""
    found: dict[tuple[str, ...], float] = {}
    for name, view, served in named:
        if name == leader_metrics.OTHER and not (gauge.among(view) and (gauge.summable or gauge.worst)):
            continue
        for labels, value in gauge.values(view, served):
            if value is not None:
                known = found.get((name, *labels))
                combine = gauge.worst or operator.add
                found[name, *labels] = value if known is None else combine(known, value)
    return found
