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

from services.adapter.gauges import PROJECT_GAUGES
from services.adapter.gauges.gauge import ProjectGauge
from services.adapter.metrics import leader
from services.adapter.state.board import Board, ProjectView, effective_served
from services.core.domain import RunState, Served

SERVED = (
    "fitloop_served_version_info",
    "1, with the version that this adapter tells Label Studio of now; absent for a project that serves none.",
    ("project", "version"),
)
PROJECTS = ("fitloop_projects", "Projects that are looked after.", ())
RUNS = ("fitloop_runs", "Runs that go on now.", ("state",))
GOING_ON = (RunState.WAITING, RunState.RUNNING, RunState.PREEMPTED)
_Views = Sequence[ProjectView]
_Named = Sequence[tuple[str, ProjectView, Served]]
"""Each with its name as a label, and with what it serves as people are told now."""


class Exposition:
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
        yield _family(PROJECTS, {(): float(len(views))})
        yield _family(RUNS, _runs(views))
        named = [
            (leader.project_names.label_of(view.project.id), view, effective_served(view.served, now))
            for view in views
        ]
        for gauge in PROJECT_GAUGES:
            yield _family((gauge.name, gauge.help, ("project", *gauge.labels)), _series(gauge, named))
        for counted in leader.LEADER_METRICS:
            yield from counted.collect()


class Everything:
    """All of this process: the registry's metrics and the board's."""

    def __init__(self, exposition: Exposition) -> None:
        """Nothing is read yet."""
        self._exposition = exposition

    def collect(self) -> Iterator[Metric]:
        """All series now."""
        yield from REGISTRY.collect()
        yield from self._exposition.collect()


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
    return _family(SERVED, {(name, told): 1.0 for name, told in named if told and name != leader.OTHER})


def _runs(views: _Views) -> dict[tuple[str, ...], float]:
    found = Counter(view.active.state for view in views if view.active)
    return {(state.value,): float(found[state]) for state in GOING_ON}


def _series(gauge: ProjectGauge, named: _Named) -> dict[tuple[str, ...], float]:
    """Values by labels. Of the projects that share a name there is a sum, or nothing."""
    found: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for name, view, told in named:
        if name == leader.OTHER and not gauge.adds_up:
            continue
        for labels, value in gauge.values(view, told):
            if value is not None:
                found[name, *labels] += value
    return found
