"""How often annotators agreed with the suggestion that Label Studio had stored for the task. Pure.

It flatters the model: people accept what they see. It is no accuracy, and is never called so; a fall is worth a look all
the same. Label Studio's API keeps to itself which prediction it noted on an annotation, so the suggestion is the one that
the annotation says it began from, or else the newest that was stored before the annotation was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.adapter.state.board import Agreement
from services.core.domain import LabelSpace
from services.core.labels import parse_labels
from services.core.labels.annotations import exclusion_cause, parse_timestamp

MAX_ANNOTATIONS: Final = 200
"""Annotations that are looked back on."""


def agreement_of(
    space: LabelSpace, tasks: Iterable[Mapping[str, Any]], most: int = MAX_ANNOTATIONS
) -> Agreement:
    """Of the newest `most` annotations of these tasks (`annotations`, `predictions`) that had a suggestion."""
    found = [
        (
            parse_timestamp(annotation.get("created_at")),
            parse_labels(space, annotation["result"]) == suggested,
        )
        for task in tasks
        for annotation in task.get("annotations") or ()
        if exclusion_cause(space, annotation) is None and (suggested := _suggested(space, task, annotation))
    ]
    newest = sorted(found, key=lambda one: one[0], reverse=True)[:most]
    return Agreement(sum(agreed for _, agreed in newest), len(newest))


def _suggested(space: LabelSpace, task: Mapping[str, Any], annotation: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of the suggestion; () where there was none."""
    made, origin = parse_timestamp(annotation.get("created_at")), annotation.get("parent_prediction")
    stored = [one for one in task.get("predictions") or () if parse_timestamp(one.get("created_at")) <= made]
    begun_from = [one for one in stored if origin and one.get("id") == origin]
    shown = max(begun_from or stored, key=lambda one: parse_timestamp(one.get("created_at")), default=None)
    return parse_labels(space, shown.get("result")) if shown else ()
