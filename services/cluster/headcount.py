"""How many predictors are ready, for Prometheus: by a watch, so that nobody waits for the API when it is asked for."""

from __future__ import annotations

import math

from services.cluster import metrics
from services.cluster.client import Kube
from services.cluster.fleet import is_alive, is_ready
from services.cluster.informer import Informer


class Headcount:
    """Watches the predictors' pods, from `start` to the end of the process."""

    def __init__(self, kube: Kube, selector: str) -> None:
        """Nothing is asked yet."""
        self._pods = Informer(kube, "pod", selector, lambda: None)

    def start(self) -> None:
        """Watch in a thread; returns at once."""
        metrics.count_ready(self.ready)
        self._pods.start()

    def close(self) -> None:
        """Stop watching."""
        self._pods.close()

    def ready(self) -> float:
        """Ready predictors, as they were last told of; NaN before the first time."""
        if not self._pods.listed.is_set():
            return math.nan
        return float(sum(is_alive(pod) and is_ready(pod) for pod in self._pods.all()))
