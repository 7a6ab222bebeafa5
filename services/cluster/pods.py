"""The predictors' pods as the leader sees them: which are ready, what each holds and has refused, what keeps one from starting."""

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
from services.core.http.asgi import bearer_headers
from services.core.http.limits import GZIP_ONLY, limit_response

GENERATION: Final = "fitloop.io/generation"

_TIMEOUT_SECONDS: Final = 2.0

_MAX_STATE_BYTES: Final = 4 << 20
"""Bytes of what a pod says of itself: some ten thousand versions."""


@dataclass(frozen=True, slots=True)
class PredictorPod:
    """One predictor."""

    name: str
    ready: bool
    generation: str = ""
    """The annotation that the last roll gave it."""
    loaded: frozenset[tuple[str, str]] = frozenset()
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    delayed: dict[tuple[str, str], str] = field(default_factory=dict)
    """What it could not load yet, for a reason that may pass."""
    responds: bool = False
    waiting_reason: str = ""
    """Why it does not start."""


def _new_client() -> httpx.Client:
    """One for all looks, for each builds a TLS context; no connection is kept, since pods come and go."""
    return httpx.Client(
        timeout=_TIMEOUT_SECONDS,
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
        headers=GZIP_ONLY,
        event_hooks={"response": [limit_response(_MAX_STATE_BYTES)]},
    )


@dataclass(slots=True)
class PredictorPods:
    """Asks the API for pods, and each pod for its state."""

    kube: Kube
    selector: str
    port: int
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    """As the predictors ask for it."""
    _client: httpx.Client = field(default_factory=_new_client, repr=False)

    def read(self) -> list[PredictorPod]:
        """All that are not about to end, nor have ended: an evicted pod stays to be seen for long. Raises ClusterError."""
        found = [pod for pod in self.kube.pods(self.selector) if is_alive(pod)]
        with ThreadPoolExecutor(max(1, min(16, len(found)))) as pool:
            return list(pool.map(self._look, found))

    def _look(self, pod: Document) -> PredictorPod:
        state = _read_state(self._client, pod["status"].get("podIP"), self.port, bearer_headers(self.token))
        return pod_of(pod, state)


def is_alive(pod: Document) -> bool:
    """Whether the pod answers, or will. Pure."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in {
        "Succeeded",
        "Failed",
    }


def is_ready(pod: Document) -> bool:
    """Whether the Service leads to it. Pure."""
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def pod_of(pod: Document, state: dict[str, Any] | None) -> PredictorPod:
    """What the API and the pod itself say. Pure."""
    meta, status = pod["metadata"], pod["status"]
    ready = is_ready(pod)
    said = state or {}
    return PredictorPod(
        name=meta["name"],
        ready=ready,
        generation=str((meta.get("annotations") or {}).get(GENERATION, "")),
        loaded=frozenset(
            (key, version) for key, versions in (said.get("held") or {}).items() for version in versions
        ),
        refused=_reasons_of(said, "refused"),
        delayed=_reasons_of(said, "delayed"),
        responds=state is not None,
        waiting_reason=""
        if ready
        else pod_waiting_reason(pod) or _crash_reason(status.get("containerStatuses") or ()),
    )


def _reasons_of(state: dict[str, Any], what: str) -> dict[tuple[str, str], str]:
    return {
        (key, version): str(reason)
        for key, reasons in (state.get(what) or {}).items()
        for version, reason in reasons.items()
    }


def _crash_reason(containers: Sequence[Document]) -> str:
    for container in containers:
        ended = (container.get("lastState") or {}).get("terminated")
        if ended and not container.get("ready"):
            return (
                f"its process ended with {ended.get('exitCode')} ({ended.get('reason')}) and is started again"
            )
    return ""


def _read_state(
    client: httpx.Client, address: str | None, port: int, headers: dict[str, str]
) -> dict[str, Any] | None:
    if not address:
        return None
    host = f"[{address}]" if ":" in address else address
    try:
        answer = client.get(f"http://{host}:{port}/state", headers=headers)
        said = answer.json() if answer.is_success else None
    except (httpx.HTTPError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


class ReadyPredictors:
    """Watches the predictors' pods, from `start` to the end of the process."""

    def __init__(self, kube: Kube, selector: str) -> None:
        """Nothing is asked yet."""
        self._pods = Informer(kube, "pod", selector, lambda: None)

    def start(self) -> None:
        """Watch in a thread; returns at once."""
        metrics.export_ready_predictors(self.count)
        self._pods.start()

    def close(self) -> None:
        """Stop watching."""
        self._pods.close()

    def count(self) -> float:
        """Ready predictors, as they were last told of; NaN before the first time."""
        if not self._pods.listed.is_set():
            return math.nan
        return float(sum(is_alive(pod) and is_ready(pod) for pod in self._pods.all()))
