"""Suggestions: turn a text's scores into Label Studio's prediction. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.core.domain import LabelSpace
from services.core.labels import build_region, text_key
from services.engine.compute import Scores


def build_prediction(
    space: LabelSpace, scores: Scores, row: int, version: str, *, is_evaluated: bool
) -> dict[str, Any] | None:
    """Return Label Studio's prediction; None for scores that are no probabilities, or labels that the config no longer has.

    `is_evaluated`: as `Manifest.is_evaluated` of the version.
    """
    if not are_probabilities(scores, row):
        return None
    if (
        scores.thresholds is not None and not space.multiple
    ):  # until a version for the changed control is made
        scores = replace(scores, thresholds=None)
    labels, probability, score = scores.chosen(row)
    return build_suggestion(space, labels, probability if is_evaluated else None, score, version)


def build_suggestion(
    space: LabelSpace, labels: Sequence[str], probability: float | None, score: float, version: str
) -> dict[str, Any] | None:
    """Return Label Studio's prediction of one label, or of several or none if the control takes these.

    Labels that the config no longer has are left out; None if nothing is left of them. Without a `probability`, that of a version
    that was not evaluated, the region shows none: `score` orders the tasks all the same.
    """
    known = [label for label in labels if label in space.labels]
    if labels and not known:
        return None
    shown = None if probability is None else min(probability, 1.0)
    return {
        "result": [build_region(space, known, shown)] if known else [],
        "score": min(score, 1.0),
        "model_version": version,
    }


def is_blind(text: str, share: float) -> bool:
    """Return whether annotators are to see no suggestion for this text: always for the same ones, and for more with a larger share.

    By a part of the text's key that nothing else is decided by.
    """
    return share > 0 and int(text_key(text)[16:32], 16) < share * 2.0**64


def conceal(prediction: dict[str, Any]) -> dict[str, Any]:
    """Return the prediction without its labels, for a blind text.

    It is stored nevertheless: Label Studio would ask for one at every view otherwise, and its uncertainty sampling shows tasks without
    a prediction of the version last. The editor shows an empty form for it.
    """
    return {**prediction, "result": []}


def are_probabilities(scores: Scores, row: int) -> bool:
    """Whether a row holds probabilities: a broken model may return anything, and rounding may exceed 1 a little."""
    probabilities = scores.probabilities[row]
    return bool(probabilities.min() >= 0 and 0 < probabilities.max() < 1.001)  # false for NaN as well
