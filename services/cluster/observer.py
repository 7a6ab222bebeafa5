"""The predictors as last observed: pods, what each has loaded, and the workload. Read in a worker, because a pod may hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.adapter.leader.workers import Finished, Workers
from services.cluster.client import Document
from services.cluster.pods import PredictorPod

_INTERVAL_SECONDS: Final = 0.2
"""Between the starts of two reads: several projects may wait at once."""
_KEY: Final = "predictors"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one read found."""

    began: float
    """When it began, in seconds of the observer's clock: what it shows was so then or later."""
    pods: list[PredictorPod]
    workload: Document


class PredictorObserver:
    """Has the predictors read again while a rollout needs them. Only the leader's thread may call it."""

    def __init__(
        self,
        read_pods: Callable[[], list[PredictorPod]],
        read_workload: Callable[[], Document],
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read before the first call of `latest`. The functions may raise ClusterError."""
        self.clock = clock
        self._read_pods = read_pods
        self._read_workload = read_workload
        self._workers = workers
        self._began = float("-inf")
        self._last: Finished[Observation | None] = Finished()

    def latest(self) -> Observation | None:
        """Return the last observation, None before the first, and have the next one made. Never waits.

        Raises ClusterError if the last read failed.
        """
        self._workers.deliver()
        now = self.clock()
        if now - self._began > _INTERVAL_SECONDS and self._workers.submit(
            _KEY, partial(self._read, now), self._finished
        ):
            self._began = now
            self._workers.deliver()
        return self._last.result()

    def _read(self, began: float) -> Observation | None:
        return Observation(began, self._read_pods(), self._read_workload())

    def _finished(self, finished: Finished[Observation | None]) -> None:
        self._last = finished
