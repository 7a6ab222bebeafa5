"""Every panel's query sent to a Prometheus as Grafana sends it: it must succeed, return data and keep the labels of its legend."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pytest

from tests.chart.dashboards import NAMES, Dashboard, Query
from tests.e2e.prometheus import ABSENT, Document, Prometheus
from tests.support.waiting import eventually

STEP = 2.0
RECORDED = frozenset(
    {
        "loop: Error of estimates",
        "serving: GPU memory of versions",
        "training: GPU memory",
        "training: GPU utilization",
    }
)
"""Panels that are empty without a GPU, or before annotations have come after several versions; they query recorded samples."""
NEEDS_CLUSTER = frozenset(
    {
        "serving: Kubernetes",
        "serving: Ready predictors",
        "training: Duration of the active rollout",
    }
)
"""Panels that need a cluster; test_cluster.py queries them."""
NEEDS_LONG_RUN = frozenset(
    {
        "loop: Progress",
        "loop: Time left",
        "training: Progress",
        "training: Throughput",
        "training: Time left",
        "training: Pending reason",
    }
)
"""Panels that need a long run and another that waits for it; test_dashboards.py queries them."""


@dataclass(frozen=True, slots=True)
class DashboardContext:
    """The variables chosen above the panels, and the start of the time range."""

    namespace: str
    project: str
    """Project id; several joined by `|`."""
    start: float
    """Start in seconds since the epoch; the end is now."""

    @property
    def values(self) -> Mapping[str, str]:
        """Values by variable."""
        return {"namespace": self.namespace, "project": self.project}


def queries() -> list[Query]:
    """Return the queries of all dashboards."""
    return [query for name in NAMES for query in Dashboard(name).queries]


def problem(prometheus: Prometheus, query: Query, shown: DashboardContext, end: float) -> str:
    """Return what is wrong with a query's result, or ""."""
    expression = query.filled(shown.values)
    try:
        if query.instant:
            found = prometheus.instant(expression, end)
        else:
            found = prometheus.over(expression, shown.start, end, STEP)
    except AssertionError as error:
        return f"{query.panel}: {error}"
    finite = [series for series in found if _has_figure(series)]
    if not finite:
        what = "no figure but NaN" if found else "empty"
        return f"{query.panel}: {what}: {expression}"
    unknown = set(re.findall(r"\{\{(\w+)\}\}", query.legend)) - set().union(
        *(one["metric"] for one in finite)
    )
    return f"{query.panel}: its legend names {', '.join(sorted(unknown))}: {expression}" if unknown else ""


def _has_figure(series: Document) -> bool:
    return any(math.isfinite(float(value)) for _, value in series["values"])


def problems(prometheus: Prometheus, shown: DashboardContext, without: Collection[str] = ()) -> list[str]:
    """Return the problems of all panels except `without`; an unknown name in `without` is a problem, too."""
    asked = queries()
    unknown = set(without) - {query.panel for query in asked}
    end = time.time()
    found = [problem(prometheus, query, shown, end) for query in asked if query.panel not in without]
    return [*(f"no panel {name}" for name in sorted(unknown)), *filter(None, found)]


def check(prometheus: Prometheus | None, shown: DashboardContext, without: Collection[str] = ()) -> None:
    """Fail with the problems of all panels. Retries for 15 s, since the latest events may not have been scraped yet."""
    if prometheus is None:
        pytest.skip(ABSENT)
    left: list[str] = []

    def answered() -> bool:
        left[:] = problems(prometheus, shown, without)
        return not left

    try:
        eventually(answered, 15, every=1)
    except AssertionError:
        raise AssertionError("\n".join(left)) from None
    choices(prometheus, shown)


def choices(prometheus: Prometheus, shown: DashboardContext) -> None:
    """Check that the queries behind the variables offer namespace and project."""
    for name in NAMES:
        variables = Dashboard(name).variables
        namespace = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["namespace"]["query"]["query"])
        assert namespace, name
        assert shown.namespace in prometheus.label_values(namespace[2], namespace[1]), name
        asked = variables["project"]["query"]["query"].removeprefix("query_result(").removesuffix(")")
        pattern = re.compile(variables["project"]["regex"].strip("/").replace("(?<", "(?P<"))
        texts = [
            _text(one)
            for one in prometheus.instant(Query(name, asked, "", True).filled(shown.values), time.time())
        ]
        offered = {found["value"]: found["text"] for found in map(pattern.search, texts) if found}
        assert all(map(offered.get, shown.project.split("|"))), f"{name}: {texts}"


def _text(series: Document) -> str:
    """Format a series as Grafana does before its regex is applied."""
    labels = ", ".join(f'{key}="{value}"' for key, value in sorted(series["metric"].items()))
    return f"{{{labels}}} {series['value'][0]} {series['value'][1]}"
