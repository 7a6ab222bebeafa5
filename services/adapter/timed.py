"""An Inference before another one, whose answers are counted by outcome and timed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.adapter import metrics
from services.adapter.metrics import InferenceOutcome
from services.adapter.ports import Inference
from services.core.errors import Overloaded, PredictorsUnreachable
from services.engine.compute import Scores


class TimedInference:
    """Raises as the other one does."""

    def __init__(self, inference: Inference) -> None:
        """Nothing is asked yet."""
        self._inference = inference

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """One row a text, in order. Raises Overloaded, EngineError, StoreError."""
        began, outcome = time.perf_counter(), InferenceOutcome.FAILED
        try:
            scores = await self._inference.scores(project_key, version, texts)
            outcome = InferenceOutcome.OK
        except PredictorsUnreachable:
            outcome = InferenceOutcome.UNREACHABLE
            raise
        except Overloaded:
            outcome = InferenceOutcome.OVERLOADED
            raise
        finally:
            metrics.inference(outcome, time.perf_counter() - began)
        return scores

    async def ready(self) -> bool:
        """Whether somebody is there to answer."""
        return await self._inference.ready()
