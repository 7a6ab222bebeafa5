"""The Inference port in one process, counted as a predictor counts: whoever looks at either finds the same figures."""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.core.errors import FitloopError
from services.engine.compute import Scores
from services.engine.inference import LocalInference
from services.predictor import metrics


class CountedInference:
    """Passes on what it is asked, and counts it."""

    def __init__(self, inference: LocalInference) -> None:
        """What `inference` holds and refuses is exported from now on."""
        self._inference = inference
        metrics.export_versions(inference.loaded, self._refused)

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """See LocalInference."""
        began, outcome = time.perf_counter(), "failed"
        try:
            scores = await self._inference.scores(project_key, version, texts)
            outcome = "answered"
        except FitloopError as error:
            outcome = metrics.outcome_of(error)
            raise
        finally:
            metrics.count_request(outcome, time.perf_counter() - began)
        return scores

    async def ready(self) -> bool:
        """See LocalInference."""
        return await self._inference.ready()

    def _refused(self) -> list[FitloopError]:
        """What is broken, without what was only away."""
        return [error for error in self._inference.refusals().values() if metrics.is_refusal(error)]
