"""Example tasks of what gives no example, by reason, from the label index. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.core.labels.index import LabelIndex
from services.core.labels.rows import NO_TEXT

MAX_TASKS: Final = 5
"""Example tasks of each reason."""


def tasks_by_reason(index: LabelIndex) -> dict[str, tuple[int, ...]]:
    """Map each reason why an annotation of the index does not count to the lowest ids of tasks that have one."""
    rows = index.rows
    entries: dict[str, list[int]] = {}
    for number in np.unique(rows["causes"]).tolist():
        for reason in {cause.reason for cause, _ in index.causes[number]}:
            entries.setdefault(reason, []).append(number)
    found = {reason: np.isin(rows["causes"], numbers) for reason, numbers in sorted(entries.items())}
    found["no_text"] = rows["text_key"] == NO_TEXT
    return {
        reason: tuple(rows["task"][has][:MAX_TASKS].tolist()) for reason, has in found.items() if has.any()
    }
