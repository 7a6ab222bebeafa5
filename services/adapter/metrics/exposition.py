"""What Prometheus is told from the board: on every adapter what it serves, on the leader the state of all projects.

Read when somebody looks, so there is nothing to keep in step, and on an adapter that does not lead the leader's series are
absent. A figure that is not known is absent too. Projects beyond the cap are summed up as `other` where a sum says
something, and left out elsewhere.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from services.adapter.metrics import leader
from services.adapter.metrics.gauges import STATE_GAUGES, ProjectGauge
from services.adapter.metrics.run_gauges import RUN_GAUGES
from services.adapter.metrics.version_gauges import VERSION_GAUGES
from services.adapter.state.board import Board, ProjectView, effective_served
from services.core.domain import RunState, Served

PROJECT_GAUGES = (*STATE_GAUGES, *RUN_GAUGES, *VERSION_GAUGES)
SERVED_VERSION = (
    "fitloop_served_version_info",
    "1, with the version that this adapter tells Label Studio of now; absent for a project that serves none.",
    ("project", "version"),
)
PROJECT_COUNT = ("fitloop_projects", "Projects that are looked after.", ())
RUN_COUNT = ("fitloop_runs", "Runs that go on now.", ("state",))
ACTIVE_STATES = (RunState.WAITING, RunState.RUNNING, RunState.PREEMPTED)
_Views = Sequence[ProjectView]
_Named = Sequence[tuple[str, ProjectView, Served]]
"""Each with its name as a label, and with what it serves as people are told now."""


class BoardCollector:
    """A collector over the board."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.time) -> None:
        """Nothing is read yet."""
        self._board = board
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """All series now."""
        views, now = tuple(self._board.views.values()), self._clock()
        yield _served(views, now)
        if not self._board.is_leader:
            return
        yield _family(PROJECT_COUNT, {(): float(len(views))})
        yield _family(RUN_COUNT, _runs(views))
        named = [
            (leader.project_names.label_of(view.project.id), view, effective_served(view.served, now))
            for view in views
        ]
        for gauge in PROJECT_GAUGES:
            yield _family((gauge.name, gauge.help, ("project", *gauge.labels)), _series(gauge, named))
        for counted in leader.LEADER_METRICS:
            yield from counted.collect()


class ProcessCollector:
    """All of this process: the registry's metrics and the board's."""

    def __init__(self, board_collector: BoardCollector) -> None:
        """Nothing is read yet."""
        self._board_collector = board_collector

    def collect(self) -> Iterator[Metric]:
        """All series now."""
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
        (leader.project_names.label_of(view.project.id), view.served.effective_version(now)) for view in views
    )
    return _family(
        SERVED_VERSION, {(name, told): 1.0 for name, told in named if told and name != leader.OTHER}
    )


def _runs(views: _Views) -> dict[tuple[str, ...], float]:
    found = Counter(view.active.state for view in views if view.active)
    return {(state.value,): float(found[state]) for state in ACTIVE_STATES}


def _series(gauge: ProjectGauge, named: _Named) -> dict[tuple[str, ...], float]:
    """Values by labels. Of the projects that share a name there is a sum, or nothing."""
    found: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for name, view, told in named:
        if name == leader.OTHER and not gauge.summable:
            continue
        for labels, value in gauge.values(view, told):
            if value is not None:
                found[name, *labels] += value
    return found
