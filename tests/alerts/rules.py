"""The alert rules as helm renders them, and promtool."""

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
"""Labels of all series of that release, from the pod's namespace and from `podTargetLabels`."""


def promtool() -> str:
    """Return promtool's executable, from PROMTOOL or PATH, or skip the test."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("no promtool: put Prometheus on PATH, or name it in PROMTOOL")
    return found


def rendered(rules: Mapping[str, Any] | None = None) -> Document:
    """Return the PrometheusRule of a release."""
    return _rendered(json.dumps({"enabled": True, **(rules or {})}))


@cache
def _rendered(rules: str) -> Document:
    values = {"monitoring": {"rules": json.loads(rules)}}
    found = template(values, "minikube-cpu", f"--namespace={NAMESPACE}", release=RELEASE)
    return found.one("PrometheusRule", FULL)


def alerts(rules: Mapping[str, Any] | None = None) -> dict[str, Document]:
    """Return its alerts by name."""
    (group,) = rendered(rules)["spec"]["groups"]
    return {one["alert"]: one for one in group["rules"]}


def checked(verb: str, text: Mapping[str, Any], folder: Path) -> str:
    """Run `promtool check|test rules` on the document; return its complaint, or ""."""
    file = folder / f"{verb}.yaml"
    file.write_text(json.dumps(text))
    done = subprocess.run([promtool(), verb, "rules", str(file)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@cache
def exported() -> dict[str, MetricDoc]:
    """Return the exported metrics, by series name."""
    found: dict[str, MetricDoc] = {}
    for one in (one for section in sections().values() for one in section):
        if one.kind == "histogram":
            found |= {f"{one.name}{ending}": one for ending in ("_bucket", "_sum", "_count")}
        else:
            found[one.name] = one
    return found


def series_of(query: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return each selector of our series in a query: the name and its (label, operator, value) matchers."""
    found = re.findall(r"\b(fitloop_\w+)(?:\{([^}]*)\})?", query)
    return [(name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', chosen)) for name, chosen in found]


def problems_of(query: str) -> list[str]:
    """Return series names, labels and label values in a query that the code does not export."""
    output: list[str] = []
    for name, chosen in series_of(query):
        if name not in exported():
            output.append(name)
            continue
        known = {**exported()[name].labels, **dict.fromkeys((*SERIES, "pod", "le"), ())}
        for label, operator, value in chosen:
            values = known.get(label, ("",))
            parts = value.split("|") if operator in {"=~", "!~"} else [value]
            if label not in known or (values and not set(parts) <= set(values)):
                output.append(f"{name}{{{label}{operator}{value}}}")
    return output
