"""Results of annotations and predictions: the labels that they give, and the region of a prediction. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.core.domain import LabelSpace


def labels_of(space: LabelSpace, result: object) -> tuple[str, ...]:
    """The labels that an annotation's result gives under `from_name`, in order, known ones or not."""
    by_path = dict(zip(space.paths or (), space.labels, strict=False))
    found: list[str] = []
    for region in result if isinstance(result, Sequence) and not isinstance(result, str) else ():
        if not isinstance(region, Mapping) or region.get("from_name") != space.from_name:
            continue
        value = region.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        for choice in choices if isinstance(choices, list) else ():
            label = _label(choice, by_path)
            if label is not None and label not in found:
                found.append(label)
    return tuple(found)


def region_of(space: LabelSpace, label: str, score: float) -> dict[str, Any]:
    """The region that Label Studio stores for a predicted label, with its calibrated probability."""
    choice: Any = label
    if space.paths is not None:
        choice = list(space.paths[space.labels.index(label)])
    return {
        "from_name": space.from_name,
        "to_name": space.to_name,
        "type": "choices",
        "value": {"choices": [choice]},
        "score": score,
    }


def is_usable(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation says anything: not cancelled (skipped) and not empty."""
    return not annotation.get("was_cancelled") and bool(annotation.get("result"))


def signature(annotations: Iterable[Mapping[str, Any]]) -> str | None:
    """Twelve hex digits that change with any edit, deletion or addition; None for a task without a label."""
    stamps = sorted(
        f"{annotation.get('id')}@{annotation.get('updated_at')}"
        for annotation in annotations
        if is_usable(annotation)
    )
    return hashlib.sha256("|".join(stamps).encode()).hexdigest()[:12] if stamps else None


def _label(choice: object, by_path: Mapping[tuple[str, ...], str]) -> str | None:
    """The label of one entry of a result: a text, or a path from the root where the config nests.

    A path that the config no longer has is a label that it no longer has, whatever else is called like its end.
    """
    if not isinstance(choice, list):
        return choice if isinstance(choice, str) else None
    if not choice or not all(isinstance(name, str) for name in choice):
        return None
    return by_path.get(tuple(choice), " > ".join(choice) if by_path else choice[-1])
