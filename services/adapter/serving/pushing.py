"""Predictions into Label Studio: in bulk, and what its bulk import passes over one by one.

The bulk import answers how many it stored and not which; it leaves out what it cannot check, as the path of a nested
choice, and a single request takes the same. What was stored is looked up before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from services.core.errors import LabelStudioNotFound, LabelStudioRejected

MAX_REFUSED_IN_A_ROW: Final = 20
"""Predictions that were refused one after another, after which the rest of a chunk is not tried."""


class PredictionSink(Protocol):
    """The part of LabelStudio that takes predictions."""

    def push_predictions(self, project_id: int, predictions: Sequence[dict[str, Any]]) -> int:
        """Store predictions; how many were stored."""
        ...

    def push_prediction(self, project_id: int, prediction: dict[str, Any]) -> None:
        """Store one. Raises Rejected."""
        ...

    def holding(self, project_id: int, version: str, tasks: Sequence[int]) -> dict[int, bool]:
        """Which of these tasks hold a prediction of the version; a deleted one is not among them."""
        ...


def push_predictions(
    source: PredictionSink,
    project_id: int,
    version: str,
    predictions: Sequence[dict[str, Any]],
    is_wanted: Callable[[], bool],
) -> int:
    """Store predictions of one version; how many Label Studio refuses. Ends early where it does not go on."""
    if not predictions or _in_bulk(source, project_id, predictions) >= len(predictions):
        return 0
    held = source.holding(project_id, version, [prediction["task"] for prediction in predictions])
    missing = [prediction for prediction in predictions if held.get(prediction["task"]) is False]
    return _one_by_one(source, project_id, missing, is_wanted)


def _in_bulk(source: PredictionSink, project_id: int, predictions: Sequence[dict[str, Any]]) -> int:
    try:
        return source.push_predictions(project_id, predictions)
    except (
        LabelStudioRejected
    ):  # all of them, for the sake of one: of a task that was deleted, or one that it cannot check
        return 0


def _one_by_one(
    source: PredictionSink,
    project_id: int,
    predictions: Sequence[dict[str, Any]],
    goes_on: Callable[[], bool],
) -> int:
    refused = in_a_row = 0
    for number, prediction in enumerate(predictions):
        if in_a_row >= MAX_REFUSED_IN_A_ROW:
            return refused + len(predictions) - number
        if not goes_on():
            break
        try:
            source.push_prediction(project_id, prediction)
            in_a_row = 0
        except (LabelStudioRejected, LabelStudioNotFound):
            refused, in_a_row = refused + 1, in_a_row + 1
    return refused
