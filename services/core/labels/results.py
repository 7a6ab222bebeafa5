"""Results of annotations and predictions: the labels they contain, and the region of a prediction. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.core.domain import LabelSpace

_MAX_EXACT: Final = 2.0**53
"""Largest whole number that JSON represents exactly."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of an annotation's result."""

    labels: tuple[str, ...] = ()
    """In order, each once, known or not."""
    has_unreadable: bool = False
    """Whether an entry under the control is not a label at all."""
    is_answered: bool = False
    """Whether the control is answered, even if with nothing."""
    other_controls: tuple[str, ...] = ()
    """Names of other controls that are answered."""


def parse_answer(space: LabelSpace, result: object) -> Answer:
    """Return what the regions of a result say under `from_name`."""
    by_path = dict(zip(space.paths or (), space.labels, strict=False))
    labels: dict[str, None] = {}
    controls: dict[str, None] = {}
    asked = unreadable = False
    for region in _regions(result):
        if (name := region.get("from_name")) != space.from_name:
            if isinstance(name, str):
                controls[name] = None
            continue
        asked = True
        for choice in _choices(region.get("value")):
            label = _label(choice, by_path, space.labels)
            if label is None:
                unreadable = True
            else:
                labels[label] = None
    return Answer(_drop_ancestors(space, tuple(labels)), unreadable, asked, tuple(controls))


def parse_labels(space: LabelSpace, result: object) -> tuple[str, ...]:
    """Return a result's labels under `from_name`, in order, known or not."""
    return parse_answer(space, result).labels


def build_region(space: LabelSpace, label: str, score: float) -> dict[str, Any]:
    """Return the region of a prediction in Label Studio's format, with its calibrated probability."""
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
    """Return whether an annotation has an answer: neither cancelled (skipped) nor empty."""
    return not annotation.get("was_cancelled") and bool(annotation.get("result"))


def signature(annotations: Iterable[Mapping[str, Any]]) -> str | None:
    """Return twelve hex digits that change with any edit, deletion or addition; None for a task without a label."""
    stamps = sorted(
        f"{annotation.get('id')}@{annotation.get('updated_at')}"
        for annotation in annotations
        if is_usable(annotation)
    )
    return hashlib.sha256("|".join(stamps).encode()).hexdigest()[:12] if stamps else None


def _drop_ancestors(space: LabelSpace, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Drop the choices around another one: the editor stores those as well if it is the only choice in them."""
    paths = dict(zip(space.labels, space.paths or (), strict=False))
    given = [paths[label] for label in labels if label in paths]
    return tuple(
        label
        for label in labels
        if label not in paths
        or not any(
            len(path) > len(paths[label]) and path[: len(paths[label])] == paths[label] for path in given
        )
    )


def _regions(result: object) -> list[Mapping[str, Any]]:
    if not isinstance(result, Sequence) or isinstance(result, str):
        return []
    return [region for region in result if isinstance(region, Mapping)]


def _choices(value: object) -> list[Any]:
    """Return a region's entries: a list, or the single entry that an import wrote without a list, as the editor reads it."""
    if not isinstance(value, Mapping) or value.get("choices") is None:
        return []
    choices = value["choices"]
    return choices if isinstance(choices, list) else [choices]


def _label(choice: object, by_path: Mapping[tuple[str, ...], str], known: tuple[str, ...]) -> str | None:
    """Return the label of an entry: a text, a number, or a path from the root if the config nests.

    A path that the config no longer has is an unknown label, even if another choice has the name of its end.
    """
    if not isinstance(choice, list):
        return _text(choice, known)
    names = [_text(name, ()) for name in choice]
    path = tuple(name for name in names if name is not None)
    if not path or len(path) < len(names):
        return None
    return by_path.get(path, " > ".join(path) if by_path else path[-1])


def _text(choice: object, known: tuple[str, ...]) -> str | None:
    """Return a text as it is, and a number as its label is written; whole numbers have no fraction: 1.0 is "1"."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, bool) or not isinstance(choice, int | float) or not abs(choice) <= _MAX_EXACT:
        return None
    written = repr(choice)
    return written if written in known or choice != int(choice) else str(int(choice))
