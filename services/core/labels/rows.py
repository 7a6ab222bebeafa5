"""One labelled task as a row of the label index: what decisions and runs need of it, without its text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from services.core.domain import LabelSpace
from services.core.labels import is_usable, signature, task_text, text_key
from services.core.labels.annotations import parse_timestamp, resolve
from services.core.labels.uncounted import Cause

RULES: Final = 1
"""Version of what `label_row` makes of a task; raise it with any change, so that stored rows are read again."""

ROW: Final = np.dtype(
    [
        ("task", "<i8"),
        ("text_key", "<u8"),
        ("signature", "<u8"),
        ("newest_annotation", "<i8"),
        ("label", "<i4"),
        ("causes", "<i4"),
        ("changed_at", "<u4"),
        ("annotations", "<u2"),
        ("flags", "u1"),
    ]
)
"""47 bytes a task, packed; `causes`, and `label` of a text that may have several, are indexes into tables of the LabelIndex."""

NO_LABEL: Final = -1
NO_TEXT: Final = 0
NO_SIGNATURE: Final = 0
COUNTED, GROUND_TRUTH, TIE = 1, 2, 4
"""Bits of `flags`."""
_UNREADABLE: Final = 1 << 63
"""No signature, which has 48 bits."""
_MOST: Final = (1 << 16) - 1

Causes = tuple[tuple[Cause, int], ...]
LabelSet = tuple[int, ...]
"""Indexes into the space's labels, ascending."""


class LabelRow(NamedTuple):
    """A task with annotations that are not cancelled; fields as in ROW."""

    task: int
    text_key: int
    """The first 8 bytes of the text key; NO_TEXT if the task shows no text."""
    signature: int
    """NO_SIGNATURE without a usable annotation."""
    newest_annotation: int
    """The highest id of the annotations that gave the label; 0 without a label."""
    label: int | LabelSet
    """Index into the space's labels, or several of them where a text may have several; NO_LABEL without an answer, or in a tie."""
    causes: Causes
    """Why annotations of it do not count, sorted."""
    changed_at: int
    """When the last of its usable annotations was made or edited: seconds since the epoch."""
    annotations: int
    """Not cancelled, as Label Studio counts them."""
    flags: int


def label_row(space: LabelSpace | None, task: Mapping[str, Any]) -> LabelRow | None:
    """Return the row of a task as Label Studio describes it; None if no annotation of it counts for anything."""
    found = [one for one in task.get("annotations") or () if isinstance(one, Mapping)]
    kept = [annotation for annotation in found if not annotation.get("was_cancelled")]
    if not kept:
        return None
    is_counted = any(not annotation.get("ground_truth") for annotation in kept)
    empty_counts = space is not None and space.empty_counts
    usable = [one for one in kept if is_usable(one, empty_counts=empty_counts)]
    changed = (parse_timestamp(one.get("updated_at")) for one in usable)
    row = LabelRow(
        task=int(task["id"]),
        text_key=NO_TEXT,
        signature=signature_number(signature(kept, empty_counts=empty_counts)),
        newest_annotation=0,
        label=NO_LABEL,
        causes=(),
        changed_at=int(max(changed, default=0.0)),
        annotations=min(len(kept), _MOST),
        flags=COUNTED if is_counted else 0,
    )
    return _resolved(space, row, kept, task.get("data")) if space else row


def _resolved(
    space: LabelSpace, row: LabelRow, annotations: list[Mapping[str, Any]], data: object
) -> LabelRow:
    found, text = resolve(space, annotations), task_text(space, data)
    tie = TIE if found.reason == "tie" else 0
    return row._replace(
        text_key=NO_TEXT if text is None else text_key_number(text_key(text)),
        newest_annotation=max(found.annotation_ids, default=0),
        label=_label(space, found.labels),
        causes=tuple(sorted(found.causes.items())),
        flags=row.flags | tie | (GROUND_TRUTH if found.ground_truth else 0),
    )


def _label(space: LabelSpace, labels: tuple[str, ...] | None) -> int | LabelSet:
    if labels is None:
        return NO_LABEL
    indexes = tuple(space.labels.index(label) for label in labels)
    return indexes if space.multiple else indexes[0]


def text_key_number(key: str) -> int:
    """Return the first 8 bytes of a text key, never NO_TEXT."""
    return int(key[:16], 16) or 1


def signature_number(mark: str | None) -> int:
    """Return a signature's 12 hex digits as a number; NO_SIGNATURE for None; for anything else a number that no task has."""
    try:
        return int(mark, 16) if mark else NO_SIGNATURE
    except ValueError:
        return _UNREADABLE
