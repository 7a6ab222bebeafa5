"""Stores predictions in Label Studio: in bulk, without deleted tasks, and one by one where the bulk import leaves some out.

The bulk import refuses all of a request if one task does not exist. It answers how many predictions it stored and not which, and
omits what it cannot validate, like the path of a nested choice, though a single request accepts it. It stores what it is sent
twice. So what is stored is looked up before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from services.core.errors import LabelStudioNotFound, LabelStudioRejected

MAX_REFUSED_IN_A_ROW: Final = 20
"""After so many refused predictions in a row the rest of a chunk is not tried."""


class PredictionSink(Protocol):
    """The part of LabelStudio that stores predictions."""

    def push_predictions(self, project_id: int, predictions: Sequence[dict[str, Any]]) -> int:
        """Store predictions; return how many were stored. Raises LabelStudioRejected, and then none was."""
        ...

    def push_prediction(self, project_id: int, prediction: dict[str, Any]) -> None:
        """Store one. Raises LabelStudioRejected."""
        ...

    def have_prediction(self, project_id: int, version: str, tasks: Sequence[int]) -> dict[int, bool]:
        """Return which of these tasks have a prediction of the version; a deleted task is missing."""
        ...


def push_predictions(
    source: PredictionSink,
    project_id: int,
    version: str,
    predictions: Sequence[dict[str, Any]],
    is_wanted: Callable[[], bool],
) -> int:
    """Store predictions of one version; return how many Label Studio refuses. Stops early once they are not wanted."""
    if not predictions or _in_bulk(source, project_id, predictions) >= len(predictions):
        return 0
    missing, any_deleted = _missing(source, project_id, version, predictions)
    if any_deleted and missing and is_wanted():
        if _in_bulk(source, project_id, missing) >= len(missing):
            return 0
        missing, _ = _missing(source, project_id, version, missing)
    return _one_by_one(source, project_id, missing, is_wanted)


def _missing(
    source: PredictionSink, project_id: int, version: str, predictions: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], bool]:
    """Return the predictions that are not stored, those of deleted tasks omitted, and whether there are such."""
    stored = source.have_prediction(project_id, version, [prediction["task"] for prediction in predictions])
    missing = [prediction for prediction in predictions if stored.get(prediction["task"]) is False]
    return missing, len(stored) < len(predictions)


def _in_bulk(source: PredictionSink, project_id: int, predictions: Sequence[dict[str, Any]]) -> int:
    try:
        return source.push_predictions(project_id, predictions)
    except LabelStudioRejected:  # all, because of one: its task was deleted, or it cannot be validated
        return 0


def _one_by_one(
    source: PredictionSink,
    project_id: int,
    predictions: Sequence[dict[str, Any]],
    is_wanted: Callable[[], bool],
) -> int:
    refused = in_a_row = 0
    for number, prediction in enumerate(predictions):
        if in_a_row >= MAX_REFUSED_IN_A_ROW:
            return refused + len(predictions) - number
        if not is_wanted():
            break
        try:
            source.push_prediction(project_id, prediction)
            in_a_row = 0
        except (LabelStudioRejected, LabelStudioNotFound):
            refused, in_a_row = refused + 1, in_a_row + 1
    return refused
