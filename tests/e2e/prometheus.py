"""A real Prometheus configured from the chart's own ServiceMonitor and PodMonitor.

Debian's Prometheus knows neither the operator nor Kubernetes: `Monitor` parses what the chart renders, `scrape` turns it
into a job as the operator would, and the selected targets are written to the job's file (see targets.py).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from demo.processes import Server, free_port

Document = dict[str, Any]
ABSENT = "no prometheus: put one on PATH (on Debian and Ubuntu: apt-get install prometheus)"
_ENDPOINTS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}


def executable() -> str:
    """Return Prometheus' executable, or skip the test."""
    found = shutil.which("prometheus")
    if not found:
        pytest.skip(ABSENT)
    return found


@dataclass(frozen=True, slots=True)
class Monitor:
    """A ServiceMonitor or PodMonitor."""

    kind: str
    name: str
    labels: Mapping[str, str]
    """Labels of the Services or pods that it selects."""
    port: str
    """Name of the port."""
    path: str
    interval: str
    pod_labels: tuple[str, ...]
    """Pod labels that its series carry."""

    @classmethod
    def of(cls, document: Document) -> Monitor:
        """Parse a monitor. Raises AssertionError for fields that this module does not support."""
        spec = document["spec"]
        endpoints = _ENDPOINTS[document["kind"]]
        assert set(spec) <= {"selector", endpoints, "podTargetLabels"}, f"teach {__name__}: {spec}"
        (endpoint,) = spec[endpoints]
        assert set(endpoint) <= {"port", "path", "interval"}, f"teach {__name__}: {endpoint}"
        assert set(spec["selector"]) == {"matchLabels"}, f"teach {__name__}: {spec}"
        return cls(
            document["kind"],
            document["metadata"]["name"],
            spec["selector"]["matchLabels"],
            endpoint["port"],
            endpoint["path"],
            endpoint["interval"],
            tuple(spec.get("podTargetLabels", ())),
        )


def monitors(objects: Iterable[Document]) -> list[Monitor]:
    """Return all monitors in the rendered chart."""
    return [Monitor.of(one) for one in objects if one["kind"] in _ENDPOINTS]


def scrape(monitor: Monitor, targets: Path, interval: str = "") -> Document:
    """Build a scrape job for a monitor; `targets` is a file that may change. `interval` overrides the monitor's."""
    return {
        "job_name": f"{monitor.kind}/{monitor.name}",
        "metrics_path": monitor.path,
        "scrape_interval": interval or monitor.interval,
        "scrape_timeout": interval or monitor.interval,
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
    }


@dataclass
class Prometheus:
    """A Prometheus process with its data in `folder`. A context manager."""

    folder: Path
    jobs: list[Document]
    server: Server | None = None

    def __enter__(self) -> Self:
        config, port = self.folder / "prometheus.yml", free_port(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        config.write_text(yaml.safe_dump({"scrape_configs": self.jobs}))
        command = [
            executable(),
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        health = f"http://127.0.0.1:{port}/-/ready"
        self.server = Server("Prometheus", command, {}, health, self.folder / "prometheus.log")
        self.server.start()
        self.server.wait(30)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        if self.server is not None:
            self.server.stop()

    def instant(self, expression: str, at: float) -> list[Document]:
        """Return series with one value each. Raises AssertionError with Prometheus' message for an invalid query."""
        found = self._get("/query", {"query": expression, "time": at})
        assert found["resultType"] == "vector", f"{expression} is a {found['resultType']}"
        return [{**one, "values": [one["value"]]} for one in found["result"]]

    def over(self, expression: str, start: float, end: float, step: float) -> list[Document]:
        """Return series with their values in the range. Raises as `instant` does."""
        parameters: dict[str, str | float] = {"query": expression, "start": start, "end": end, "step": step}
        return list(self._get("/query_range", parameters)["result"])

    def label_values(self, label: str, series: str) -> list[str]:
        """Return the values of a label in these series."""
        return list(self._get(f"/label/{label}/values", {"match[]": series}))

    def silent(self) -> list[str]:
        """Return targets whose last scrape failed, with the reason."""
        found = self._get("/targets", {"state": "active"})["activeTargets"]
        return [f"{one['labels']}: {one['lastError']}" for one in found if one["health"] != "up"]

    def scraped(self, job: str) -> int:
        """Return how many targets of a job answered their last scrape."""
        found = self._get("/targets", {"state": "active"})["activeTargets"]
        return sum(one["scrapePool"] == job and one["health"] == "up" for one in found)

    def _get(self, path: str, parameters: Mapping[str, str | float]) -> Any:
        answer = self._client.get(path, params=dict(parameters)).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]


def stored(samples: Path, folder: Path) -> None:
    """Convert OpenMetrics samples with timestamps into the data of a Prometheus in `folder`."""
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(samples), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def write_targets(file: Path, targets: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Write targets with their labels atomically: Prometheus reads the file whenever it changes."""
    partial = file.with_suffix(f".{time.monotonic_ns()}")
    partial.write_text(json.dumps([{"targets": [at], "labels": dict(labels)} for at, labels in targets]))
    partial.replace(file)
