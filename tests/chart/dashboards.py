"""The chart's dashboards: panels, their queries with variables substituted, and the metrics in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.chart.rendering import CHART, Document

FOLDER = CHART / "files" / "dashboards"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
GRAFANA = {"__rate_interval": "30s", "__interval": "5s", "__range": "30m"}
"""Variables that Grafana sets itself."""
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_GROUPING = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*(?:\([^()]*\))?"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    panel: str
    """`<dashboard>: <title>`, as in the lists of panels."""
    expression: str
    legend: str
    instant: bool
    """Evaluated at one moment instead of a range."""

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the expression with variables substituted; `.*` is Grafana's "All"."""
        return filled(self.expression, values)

    def metrics(self) -> set[str]:
        return metrics_of(self.expression)


@dataclass(frozen=True)
class Dashboard:
    """One dashboard file."""

    name: str

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    @cached_property
    def document(self) -> Document:
        """The parsed JSON."""
        return dict(json.loads(self.text))

    @property
    def panels(self) -> list[dict[str, Any]]:
        """All panels except row headings."""
        return [panel for panel in self.document["panels"] if panel["type"] != "row"]

    @property
    def queries(self) -> Iterator[Query]:
        """The queries of all panels."""
        for panel in self.panels:
            for target in panel["targets"]:
                name = f"{self.name}: {panel['title']}"
                yield Query(name, target["expr"], target["legendFormat"], target["instant"])

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """Variables by name."""
        return {one["name"]: one for one in self.document["templating"]["list"]}


def filled(expression: str, values: Mapping[str, str]) -> str:
    """Substitute `$name` by its value. Raises KeyError for an unknown variable."""
    return re.sub(r"\$(\w+)", lambda found: {**GRAFANA, **values}[found[1]], expression)


def metrics_of(expression: str) -> set[str]:
    """Return the metric names in an expression: what remains without strings, selectors, ranges, groupings, functions and numbers."""
    rest = re.sub(r'"[^"]*"', "", expression)
    rest = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", " ", rest)
    rest = re.sub(_GROUPING, " ", rest)
    rest = re.sub(r"[a-z_]+\s*\(", "(", rest)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", rest)) - _WORDS
