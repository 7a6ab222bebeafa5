"""The chart's dashboards as they are read: panels, their queries with the variables filled in, the metrics that these name."""

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
"""What Grafana itself fills in."""
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_GROUPING = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*(?:\([^()]*\))?"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    panel: str
    """`<dashboard>: <title>`, by which lists of panels name it."""
    expression: str
    legend: str
    instant: bool
    """Asked for one moment, and not for the time shown."""

    def filled(self, values: Mapping[str, str]) -> str:
        """The expression with every variable's value; `.*` is Grafana's "All"."""
        return filled(self.expression, values)

    def metrics(self) -> set[str]:
        """Names of metrics in it."""
        return metrics_of(self.expression)


@dataclass(frozen=True)
class Dashboard:
    """One file."""

    name: str

    @property
    def text(self) -> str:
        """As it lies there."""
        return self.path.read_text("utf-8")

    @property
    def path(self) -> Path:
        """Where."""
        return FOLDER / f"{self.name}.json"

    @cached_property
    def document(self) -> Document:
        """What Grafana reads."""
        return dict(json.loads(self.text))

    @property
    def panels(self) -> list[dict[str, Any]]:
        """All but the rows' headings."""
        return [panel for panel in self.document["panels"] if panel["type"] != "row"]

    @property
    def queries(self) -> Iterator[Query]:
        """Of all panels."""
        for panel in self.panels:
            for target in panel["targets"]:
                name = f"{self.name}: {panel['title']}"
                yield Query(name, target["expr"], target["legendFormat"], target["instant"])

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """By name."""
        return {one["name"]: one for one in self.document["templating"]["list"]}


def filled(expression: str, values: Mapping[str, str]) -> str:
    """`$name` replaced by its value. Raises KeyError for a variable that nobody fills in."""
    return re.sub(r"\$(\w+)", lambda found: {**GRAFANA, **values}[found[1]], expression)


def metrics_of(expression: str) -> set[str]:
    """What is left of an expression without strings, selectors, windows, groupings, functions and numbers."""
    rest = re.sub(r'"[^"]*"', "", expression)
    rest = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", " ", rest)
    rest = re.sub(_GROUPING, " ", rest)
    rest = re.sub(r"[a-z_]+\s*\(", "(", rest)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", rest)) - _WORDS
