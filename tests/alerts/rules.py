"""The rules as helm renders them, and promtool's verdict on them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.cli.metrics_reference import MetricDoc, sections
from tests.chart.rendering import CHART, Document, template

FILES = CHART / "files" / "alerts"
RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
NAMES = tuple(sorted(path.stem for path in FILES.glob("*.yaml")))
NAMESPACE, RELEASE, FULL = "team", "loop", "loop-fitloop"
SERIES = {"namespace": NAMESPACE, "app_kubernetes_io_instance": RELEASE}
"""Labels of all series of that release: of the pod's place, and by `podTargetLabels`."""


def promtool() -> str:
    """The promtool to use: PROMTOOL, or the one on PATH. Skips the test, visibly, where there is none."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("no promtool: put Prometheus on PATH, or name it in PROMTOOL")
    return found


def rendered(rules: Mapping[str, Any] | None = None) -> Document:
    """The PrometheusRule of a release."""
    return _rendered(json.dumps({"enabled": True, **(rules or {})}))


@cache
def _rendered(rules: str) -> Document:
    values = {"monitoring": {"rules": json.loads(rules)}}
    found = template(values, "minikube-cpu", f"--namespace={NAMESPACE}", release=RELEASE)
    return found.one("PrometheusRule", FULL)


def alerts(rules: Mapping[str, Any] | None = None) -> dict[str, Document]:
    """Its alerts by name."""
    (group,) = rendered(rules)["spec"]["groups"]
    return {one["alert"]: one for one in group["rules"]}


def checked(verb: str, text: Mapping[str, Any], folder: Path) -> str:
    """What `promtool check|test rules` says of that document; "" where it is content."""
    file = folder / f"{verb}.yaml"
    file.write_text(json.dumps(text))
    done = subprocess.run([promtool(), verb, "rules", str(file)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@cache
def exported() -> dict[str, MetricDoc]:
    """What the code exports, by the names of series as queries say them."""
    found: dict[str, MetricDoc] = {}
    for one in (one for section in sections().values() for one in section):
        if one.kind == "histogram":
            found |= {f"{one.name}{ending}": one for ending in ("_bucket", "_sum", "_count")}
        else:
            found[one.name] = one
    return found


def series_of(query: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each selector of our series in a query: the name, and (label, operator, value) of what is chosen by."""
    found = re.findall(r"\b(fitloop_\w+)(?:\{([^}]*)\})?", query)
    return [(name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', chosen)) for name, chosen in found]


def problems_of(query: str) -> list[str]:
    """Names of series, labels and labels' values in a query that the code does not export."""
    said: list[str] = []
    for name, chosen in series_of(query):
        if name not in exported():
            said.append(name)
            continue
        known = {**exported()[name].labels, **dict.fromkeys((*SERIES, "pod", "le"), ())}
        for label, operator, value in chosen:
            values = known.get(label, ("",))
            parts = value.split("|") if operator in {"=~", "!~"} else [value]
            if label not in known or (values and not set(parts) <= set(values)):
                said.append(f"{name}{{{label}{operator}{value}}}")
    return said
