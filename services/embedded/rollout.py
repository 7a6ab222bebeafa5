"""The Rollout port in one process: a version is brought where it is to answer by being loaded, warmed and tested here."""

from __future__ import annotations

import time

from services.adapter.ports import RolloutStatus
from services.core.errors import FitloopError
from services.engine.inference import LocalInference
from services.predictor import metrics


class LocalRollout:
    """Done as soon as this process holds the version."""

    flip_seconds = 0.0
    """There is nobody to agree with."""

    def __init__(self, inference: LocalInference) -> None:
        """Nothing is loaded yet."""
        self._inference = inference

    def advance(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """Load, warm and smoke-test the version; blocks. Raises EngineError, StoreError."""
        del now
        return self.check(project_key, version)

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """The same: what serves here is held here."""
        is_load = (project_key, version) not in self._inference.held()
        began = time.perf_counter()
        try:
            self._inference.prepare(project_key, version)
        except FitloopError as error:
            metrics.loaded("refused" if metrics.is_refusal(error) else "failed")
            raise
        if is_load:
            metrics.loaded("loaded", time.perf_counter() - began)
        return RolloutStatus(done=True)

    def withdraw(self, project_key: str, version: str) -> None:
        """Nothing to do: what is not used leaves memory by itself."""

    def poll(self, now: float) -> None:
        """Nothing to do: nothing goes on between two calls."""
