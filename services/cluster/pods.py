"""The predictors' pods as the leader sees them: readiness, loaded and refused versions, and why a pod does not start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from pydantic import SecretStr

from services.cluster import metrics
from services.cluster.client import Document, Kube
from services.cluster.informer import Informer
from services.cluster.job_status import pod_waiting_reason
from services.core.http.limits import GZIP_ONLY, limit_response
from services.core.http.token import bearer_headers
from services.engine.compute import VersionKey

GENERATION: Final = "fitloop.io/generation"
_TIMEOUT_SECONDS: Final = 2.0
_MAX_STATE_BYTES: Final = 4 << 20
"""Of a pod's /state: some ten thousand versions."""


@dataclass(frozen=True, slots=True)
class PredictorPod:
    """One predictor."""

    name: str
    ready: bool
    generation: str = ""
    """The annotation that the last rolling update set."""
    loaded: frozenset[VersionKey] = frozenset()
    refused: dict[VersionKey, str] = field(default_factory=dict)
    delayed: dict[VersionKey, str] = field(default_factory=dict)
    """Versions that it could not load yet, each with a reason that may pass."""
    responds: bool = False
    waiting_reason: str = ""
    """Why it does not start."""
    encoders: frozenset[str] | None = None
    """Digests of the shared encoders in its memory; None from a predictor that does not say, as of an earlier release."""


def _new_client() -> httpx.Client:
    """Return one client for all reads, as each builds a TLS context; no connection is kept, since pods come and go."""
    return httpx.Client(
        timeout=_TIMEOUT_SECONDS,
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
        headers=GZIP_ONLY,
        event_hooks={"response": [limit_response(_MAX_STATE_BYTES)]},
    )


@dataclass(slots=True)
class PredictorPods:
    """Lists the pods by the API and reads the state of each."""

    kube: Kube
    selector: str
    port: int
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    """The token that predictors require."""
    _client: httpx.Client = field(default_factory=_new_client, repr=False)

    def read(self) -> list[PredictorPod]:
        """Return all pods that are neither terminating nor terminated (evicted pods stay listed). Raises ClusterError."""
        found = [pod for pod in self.kube.pods(self.selector) if is_alive(pod)]
        with ThreadPoolExecutor(max(1, min(16, len(found)))) as pool:
            return list(pool.map(self._read_pod, found))

    def _read_pod(self, pod: Document) -> PredictorPod:
        state = _read_state(self._client, pod["status"].get("podIP"), self.port, bearer_headers(self.token))
        return pod_of(pod, state)


def is_alive(pod: Document) -> bool:
    """Return whether the pod runs, or will."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in {
        "Succeeded",
        "Failed",
    }


def is_ready(pod: Document) -> bool:
    """Return whether the Service routes to the pod."""
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def pod_of(pod: Document, state: dict[str, Any] | None) -> PredictorPod:
    """Combine what the API and the pod itself report."""
    meta, status = pod["metadata"], pod["status"]
    ready = is_ready(pod)
    known = state or {}
    return PredictorPod(
        name=meta["name"],
        ready=ready,
        generation=str((meta.get("annotations") or {}).get(GENERATION, "")),
        loaded=frozenset(
            VersionKey(key, version)
            for key, versions in (known.get("held") or {}).items()
            for version in versions
        ),
        refused=_reasons_of(known, "refused"),
        delayed=_reasons_of(known, "delayed"),
        responds=state is not None,
        waiting_reason=""
        if ready
        else pod_waiting_reason(pod) or _crash_reason(status.get("containerStatuses") or ()),
        encoders=_encoders_of(known),
    )


def _encoders_of(state: dict[str, Any]) -> frozenset[str] | None:
    found = state.get("encoders")
    return frozenset(map(str, found)) if isinstance(found, list) else None


def _reasons_of(state: dict[str, Any], what: str) -> dict[VersionKey, str]:
    return {
        VersionKey(key, version): str(reason)
        for key, reasons in (state.get(what) or {}).items()
        for version, reason in reasons.items()
    }


def _crash_reason(containers: Sequence[Document]) -> str:
    for container in containers:
        ended = (container.get("lastState") or {}).get("terminated")
        if ended and not container.get("ready"):
            return f"its process exited with {ended.get('exitCode')} ({ended.get('reason')}) and is restarted"
    return ""


def _read_state(
    client: httpx.Client, address: str | None, port: int, headers: dict[str, str]
) -> dict[str, Any] | None:
    if not address:
        return None
    host = f"[{address}]" if ":" in address else address
    try:
        answer = client.get(f"http://{host}:{port}/state", headers=headers)
        state = answer.json() if answer.is_success else None
    except (httpx.HTTPError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


class ReadyPredictors:
    """Counts ready predictors for Prometheus by a watch, so that a scrape never waits for the API."""

    def __init__(self, kube: Kube, selector: str) -> None:
        self._pods = Informer(kube, "pod", selector, lambda: None)

    def start(self) -> None:
        """Start watching in a thread."""
        metrics.export_ready_predictors(self.count)
        self._pods.start()

    def close(self) -> None:
        self._pods.close()

    def count(self) -> float:
        """Return the number of ready predictors as last seen; NaN before the first list."""
        if not self._pods.listed.is_set():
            return math.nan
        return float(sum(is_alive(pod) and is_ready(pod) for pod in self._pods.all()))
