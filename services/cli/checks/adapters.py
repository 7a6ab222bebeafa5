"""The adapters that run, asked as this place allows: at their pods' addresses, through the Kubernetes API, or at their one URL."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from services.core.errors import FitloopError
from services.core.faults import brief_of

if TYPE_CHECKING:  # `fitloop local` needs no client of Kubernetes
    from services.cluster.client import Document
    from services.cluster.inspect import Inspector

PORT, MANAGEMENT = 9090, 9091
_SELECTOR = "app.kubernetes.io/component=adapter,app.kubernetes.io/part-of=fitloop"
_SAMPLE = re.compile(r"^(\w+\{[^}]*\}) ([0-9.e+]+)$", re.MULTILINE)
_PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Adapters:
    """Without an inspector: the one process at `url`."""

    url: str
    login: tuple[str, str] | None = None
    inspector: Inspector | None = None
    release: str = ""
    in_pod: bool = False
    """Whether pods are reached at their own addresses."""

    def pods(self) -> list[Document]:
        """Those of the release that run. Raises ClusterError."""
        assert self.inspector is not None  # noqa: S101  # for the type checker: asked on a cluster alone
        account = f"{self.release}-adapter"
        return [
            pod
            for pod in self.inspector.kube.pods(_SELECTOR)
            if pod["spec"].get("serviceAccountName") == account
            and pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def counters(self) -> Counter[str]:
        """What all of them have counted, by metric with labels. Raises FitloopError."""
        total: Counter[str] = Counter()
        for text in self._each("/metrics", MANAGEMENT):
            total.update({name: int(float(value)) for name, value in _SAMPLE.findall(text)})
        return total

    def releases(self) -> dict[str, str]:
        """By pod: which release answers. Raises FitloopError."""
        return {
            str(pod["metadata"]["name"]): str(
                _parsed(self.fetch(pod, PORT, "/health")).get("version", "an older one")
            )
            for pod in self.pods()
        }

    def get_object(self, path: str) -> dict[str, Any]:
        """A JSON object from one of them; {} where it knows nothing of that. Raises FitloopError."""
        if self.inspector is None or self.in_pod:
            url = self.url if self.inspector is None else f"http://127.0.0.1:{PORT}"
            return _parsed(_get(url + path, self.login))
        pods = self.pods()
        return _parsed(self.fetch(pods[0], PORT, path)) if pods else {}

    def fetch(self, pod: Document, port: int, path: str) -> str:
        """What a pod answers. Raises FitloopError."""
        if self.in_pod:
            address = str(pod["status"].get("podIP") or "")
            host = f"[{address}]" if ":" in address else address
            return _get(f"http://{host}:{port}{path}", self.login if port == PORT else None)
        assert self.inspector is not None  # noqa: S101  # as above
        return self.inspector.proxied(str(pod["metadata"]["name"]), port, path)

    def _each(self, path: str, port: int) -> list[str]:
        if self.inspector is None:
            return [_get(self.url + path, self.login)]
        pods = self.pods()
        if not pods:
            raise FitloopError(f"No pod of the adapter of {self.release} runs: see `kubectl get pods`.")
        return [self.fetch(pod, port, path) for pod in pods]


def _get(url: str, login: tuple[str, str] | None) -> str:
    try:
        answer = httpx.get(url, auth=login, timeout=_PROBE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FitloopError(
            f"Fitloop does not answer ({brief_of(error)}): does it run, and is FITLOOP_URL its address?"
        ) from error
    if answer.status_code in {401, 403}:
        raise FitloopError(
            "Fitloop refused the credentials: set BASIC_AUTH_USER and BASIC_AUTH_PASS as they are set there."
        )
    return answer.text if answer.status_code != httpx.codes.NOT_FOUND else "{}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FitloopError("What answers is not Fitloop: is FITLOOP_URL its address?") from error
    return found if isinstance(found, dict) else {}
