"""Scrape targets of the chart's monitors on a cluster, discovered as the Prometheus operator does and scraped through the API server.

Pod addresses are often unreachable from this machine; `kubectl proxy` reaches them wherever KUBECONFIG points. Each target
has the labels that the operator would set, so queries and alerts see the same series.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx

from demo.processes import Server, free_port
from tests.e2e.prometheus import Monitor, Prometheus, monitors, scrape, write_targets
from tests.e2e.release import Release
from tests.support.waiting import eventually

Target = tuple[str, Mapping[str, str]]
MONITORING: Mapping[str, Any] = {
    "networkPolicy": {"metricsFrom": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
    "monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
}
"""Values for clusters with the Prometheus operator."""
TEMPLATES = ("monitoring/servicemonitor.yaml", "monitoring/podmonitor.yaml")


@contextlib.contextmanager
def scraping(release: Release, folder: Path) -> Iterator[Prometheus | None]:
    """Scrape a release's pods every second through the monitors of its chart; yield None if there is no Prometheus.

    The cluster need not know the operator's kinds: of what the chart makes only Services are created, and taken away at the end.
    """
    if not shutil.which("prometheus"):
        yield None
        return
    objects = release.rendered(MONITORING, *TEMPLATES)
    services = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [one for one in objects if one["kind"] == "Service"]}
    )
    release.namespace.kubectl("apply", "-f", "-", text=services)
    try:
        with TargetDiscovery(release.namespace.name, monitors(objects), folder / "targets") as watching:
            jobs = [scrape(monitor, watching.file(monitor), "1s") for monitor in watching.monitors]
            with Prometheus(folder / "prometheus", jobs) as prometheus:
                for job in jobs:
                    name = job["job_name"]
                    eventually(partial(prometheus.scraped, name), 30, what=f"pods of {name}")
                yield prometheus
    finally:
        release.namespace.kubectl("delete", "--wait=true", "-f", "-", text=services)


@dataclass
class TargetDiscovery:
    """Keeps a file of targets for each monitor up to date. A context manager."""

    namespace: str
    monitors: Sequence[Monitor]
    folder: Path
    _over: threading.Event = field(default_factory=threading.Event)

    def file(self, monitor: Monitor) -> Path:
        """Return the file of its targets."""
        return self.folder / f"{monitor.kind}-{monitor.name}.json"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        port = free_port(28001)
        self.proxy = f"127.0.0.1:{port}"
        command = ["kubectl", "proxy", f"--port={port}"]
        self._server = Server(
            "kubectl proxy", command, {}, f"http://{self.proxy}/livez", self.folder / "proxy.log"
        )
        self._server.start()
        self._server.wait(30)
        self._client = httpx.Client(base_url=f"http://{self.proxy}", timeout=10)
        self._look()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()
        self._server.stop()

    def _run(self) -> None:
        while not self._over.wait(1):
            with contextlib.suppress(httpx.HTTPError):  # asked again in a second
                self._look()

    def _look(self) -> None:
        for monitor in self.monitors:
            write_targets(self.file(monitor), list(self._targets(monitor)))

    def _targets(self, monitor: Monitor) -> Iterator[Target]:
        selector = ",".join(f"{key}={value}" for key, value in monitor.labels.items())
        if monitor.kind == "PodMonitor":
            for pod in self._list("api/v1", "pods", selector):
                yield from self._of_pod(monitor, pod, f"{self.namespace}/{monitor.name}", {})
            return
        for service in self._list("api/v1", "services", selector):
            name = service["metadata"]["name"]
            for slice_ in self._list(
                "apis/discovery.k8s.io/v1", "endpointslices", f"kubernetes.io/service-name={name}"
            ):
                if any(port["name"] == monitor.port for port in slice_["ports"] or ()):
                    yield from self._of_slice(monitor, slice_, name)

    def _of_slice(self, monitor: Monitor, slice_: Mapping[str, Any], service: str) -> Iterator[Target]:
        for endpoint in slice_["endpoints"] or ():
            pod = self._get(f"api/v1/namespaces/{self.namespace}/pods/{endpoint['targetRef']['name']}")
            yield from self._of_pod(monitor, pod, service, {"service": service})

    def _of_pod(
        self, monitor: Monitor, pod: Mapping[str, Any], job: str, more: Mapping[str, str]
    ) -> Iterator[Target]:
        """Yield a target for each port of that name. A finished pod has none."""
        if pod["status"].get("phase") not in {"Pending", "Running"} or not pod["status"].get("podIP"):
            return
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                if port.get("name") == monitor.port:
                    yield self._target(
                        monitor, pod, container["name"], port["containerPort"], {"job": job, **more}
                    )

    def _target(
        self, monitor: Monitor, pod: Mapping[str, Any], container: str, port: int, more: Mapping[str, str]
    ) -> Target:
        name = pod["metadata"]["name"]
        own = pod["metadata"].get("labels", {})
        through = f"/api/v1/namespaces/{self.namespace}/pods/{name}:{port}/proxy{monitor.path}"
        labels = {
            "instance": f"{pod['status']['podIP']}:{port}",
            "namespace": self.namespace,
            "pod": name,
            "container": container,
            "endpoint": monitor.port,
            **{re.sub(r"\W", "_", key): own[key] for key in monitor.pod_labels if key in own},
            **more,
            "__metrics_path__": through,
        }
        return self.proxy, labels

    def _list(self, api: str, kind: str, selector: str) -> list[dict[str, Any]]:
        return list(self._get(f"{api}/namespaces/{self.namespace}/{kind}", labelSelector=selector)["items"])

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        answer = self._client.get(path, params=parameters)
        answer.raise_for_status()
        return dict(answer.json())
