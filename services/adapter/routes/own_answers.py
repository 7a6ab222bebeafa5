"""What a class of the operator's answered, as Label Studio reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from services.adapter import metrics
from services.adapter.metrics import PredictionOutcome
from services.mlbackend.calls import TaskPredictions


def render_answers(
    project_id: int, tasks: int, positions: Sequence[int], found: Sequence[TaskPredictions]
) -> bytes:
    """Return the answers of `tasks` tasks as JSON without enclosing brackets: one prediction by itself, several as a list.

    `found` are those at `positions`; the class was not asked for others.
    """
    results: list[Any] = [[]] * tasks
    for position, answer in zip(positions, found, strict=True):
        results[position] = answer[0] if len(answer) == 1 else answer
    answered = sum(map(bool, found))
    metrics.count_predictions(PredictionOutcome.PREDICTED, answered)
    metrics.count_predictions(PredictionOutcome.NO_SUGGESTION, len(found) - answered)
    scores = (one["score"] for answer in found for one in answer if "score" in one)
    metrics.observe_scores(project_id, scores)
    return orjson.dumps(results)[1:-1]
