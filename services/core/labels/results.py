"""Results of annotations and predictions: the labels they contain, and the region of a prediction. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from services.core.domain import LabelSpace
from services.core.labels.choice_trees import PATH
from services.core.labels.stored_values import STORED_VALUES

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
    by_path = _labels_by_path(space) if space.paths else {}
    labels: dict[str, None] = {}
    controls: dict[str, None] = {}
    asked = unreadable = False
    for region in _regions(result):
        if (name := region.get("from_name")) != space.from_name:
            if isinstance(name, str):
                controls[name] = None
            continue
        asked = True
        for choice in _entries(space, region.get("value")):
            label = _label(choice, by_path, space.labels)
            if label is None:
                unreadable = True
            else:
                labels[label] = None
    return Answer(_drop_ancestors(space, tuple(labels)), unreadable, asked, tuple(controls))


def parse_labels(space: LabelSpace, result: object) -> tuple[str, ...]:
    """Return a result's labels under `from_name`, in order, known or not."""
    return parse_answer(space, result).labels


def build_region(space: LabelSpace, labels: Sequence[str], score: float | None) -> dict[str, Any]:
    """Return the region of a prediction in Label Studio's format, with its calibrated probability; None: it shows none."""
    stored = STORED_VALUES[space.control_tag]
    region = {
        "from_name": space.from_name,
        "to_name": space.to_name,
        "type": stored.type,
        "value": {stored.type: stored.write(space, labels)},
    }
    return region if score is None else {**region, "score": score}


def is_usable(annotation: Mapping[str, Any], *, empty_counts: bool = False) -> bool:
    """Return whether an annotation has an answer: not cancelled (skipped), and not empty unless that is an answer."""
    result = annotation.get("result")
    return not annotation.get("was_cancelled") and (bool(result) or (empty_counts and result == []))


def signature(annotations: Iterable[Mapping[str, Any]], *, empty_counts: bool = False) -> str | None:
    """Return twelve hex digits that change with any edit, deletion or addition; None for a task without a label."""
    stamps = sorted(
        f"{annotation.get('id')}@{annotation.get('updated_at')}"
        for annotation in annotations
        if is_usable(annotation, empty_counts=empty_counts)
    )
    return hashlib.sha256("|".join(stamps).encode()).hexdigest()[:12] if stamps else None


@lru_cache(maxsize=64)
def _labels_by_path(space: LabelSpace) -> Mapping[tuple[str, ...], str]:
    """Map each path to its label, and what the editor makes of it if a choice contains the separator of paths."""
    paths = space.paths or ()
    found: dict[tuple[str, ...], str] = {}
    if separator := space.path_separator:
        split = (tuple(separator.join(path).split(separator)) for path in paths)
        found.update(zip(split, space.labels, strict=True))
    return {**found, **dict(zip(paths, space.labels, strict=True))}


def _drop_ancestors(space: LabelSpace, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Drop the choices around another one: the editor stores those as well if it is the only choice in them.

    Where a Taxonomy allows several paths, annotators choose each of them for itself.
    """
    if len(labels) < 2 or (space.multiple and space.control_tag == "Taxonomy"):  # nothing is around one label
        return labels
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


def _entries(space: LabelSpace, value: object) -> list[Any]:
    stored = STORED_VALUES[space.control_tag]
    found = value.get(stored.type) if isinstance(value, Mapping) else None
    return [] if found is None else stored.read(found)


def _label(choice: object, by_path: Mapping[tuple[str, ...], str], known: tuple[str, ...]) -> str | None:
    """Return the label of an entry: a text, a number, or a path from the root if the config nests.

    A path that the config does not have is an unknown label, even if another choice has the name of its end; one of a single name is
    the choice of that name, which was moved, unless choices lie below it.
    """
    if not isinstance(choice, list):
        return _text(choice, known)
    names = [_text(name, ()) for name in choice]
    path = tuple(name for name in names if name is not None)
    if not path or len(path) < len(names):
        return None
    if not by_path:
        return path[-1]
    unknown = PATH.join(path)
    if path not in by_path and unknown in known and any(other[: len(path)] == path for other in by_path):
        return f"{unknown}{PATH}…"
    return by_path.get(path, unknown)


def _text(choice: object, known: tuple[str, ...]) -> str | None:
    """Return a text as it is, and a number as its label is written; whole numbers have no fraction: 1.0 is "1"."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, bool) or not isinstance(choice, int | float) or not abs(choice) <= _MAX_EXACT:
        return None
    written = repr(choice)
    return written if written in known or choice != int(choice) else str(int(choice))
