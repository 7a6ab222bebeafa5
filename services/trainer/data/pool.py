"""Reads the pool, the unlabelled tasks of a project, as far as it has changed since an earlier run has read it.

A read asks Label Studio for the tasks that changed since the pool's cursor, the newest ids first, and can be continued by a later
run where it was cut off. Texts are passed on and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from services.core.domain import Counts, LabelSpace
from services.core.features import KEY_BYTES, Keys, key_array
from services.core.labels import text_key
from services.core.labels.readable import readable_text
from services.core.pool import EMPTY, MAX_TASKS, Pool, text_source
from services.trainer.process import LabelSource

log = structlog.get_logger()
MAX_TEXTS: Final = 2_000
"""Unlabelled texts that a probe is trained on, and others that an estimate is made from: more bring little and take longer."""
_HELD_SHARE: Final = 0.15
"""Of a small pool, for texts that are not trained on: the mean of 300 probabilities is known to 1.5 points."""
_NO_KEY: Final = "0" * (2 * KEY_BYTES)


class PoolTexts(NamedTuple):
    """Some tasks of the pool with their texts."""

    keys: Keys
    """(n, 16)"""
    texts: list[str]


def trained_texts(texts: int) -> int:
    """Return how many of so many unlabelled texts a probe is trained on: the first in the order of their keys."""
    return min(MAX_TEXTS, texts - int(_HELD_SHARE * texts))


@dataclass(slots=True)
class PoolReader:
    """The pool of one project, brought up to date page by page. Raises LabelStudioError."""

    source: LabelSource
    project_id: int
    space: LabelSpace
    pool: Pool

    def __post_init__(self) -> None:
        """Start anew if the label config shows another text than the one that the pool's keys are of."""
        wanted = text_source(self.space)
        if self.pool.source != wanted:
            self.pool = replace(EMPTY, source=wanted)

    def changes(self, counts: Counts) -> Iterator[PoolTexts]:
        """Read the tasks that changed since the cursor, and yield the texts of each page; `pool` has them then.

        `counts`: of the project before anything is read. A read that an earlier run has begun is continued; what changed since that
        began is read by the next one.
        """
        begun = self.pool
        if not begun.target:
            if begun.cursor == counts.newest_change:
                self.pool = replace(begun, counted=counts.tasks)
                return
            begun = self.pool = replace(begun, target=counts.newest_change, below=0)
        for page in self.source.unlabelled_pages(self.project_id, begun.cursor, begun.below):
            is_full = not begun.cursor and len(self.pool) >= MAX_TASKS  # older ones would be dropped again
            if page and not is_full:
                yield self._add(page, below=page[-1]["id"])
            if is_full:
                break
        self.pool = replace(self.pool, cursor=begun.target, target="", below=0, counted=counts.tasks)

    def texts(self, tasks: NDArray[np.int64]) -> PoolTexts:
        """Return the texts of these tasks as they are now; those that were deleted or labelled leave the pool."""
        rows = self.source.unlabelled_texts(self.project_id, tasks.tolist())
        there = [row["id"] for row in rows]
        self.pool = self.pool.without(tasks[~np.isin(tasks, there)])
        return self._add(rows, self.pool.below)

    def reconcile(self, counts: Counts) -> None:
        """Compare the pool with all ids if it has other tasks than Label Studio counts: some were deleted, or not seen.

        A task that was saved by a transaction that ended after a later one is not among the changes since that one.
        """
        unlabelled = counts.tasks - counts.annotated_tasks
        if len(self.pool) == min(unlabelled, MAX_TASKS):
            return
        pages = list(self.source.all_unlabelled_ids(self.project_id))
        ids = np.array([task for page in pages for task in page], np.int64)[-MAX_TASKS:]
        before = len(self.pool)
        self.pool = self.pool.without(np.setdiff1d(self.pool.tasks, ids))
        missing = np.setdiff1d(ids, self.pool.tasks)
        if len(missing):
            self.texts(missing)
        log.info("pool_reconciled", removed=before + len(missing) - len(self.pool), added=len(missing))

    def _add(self, rows: Sequence[dict[str, Any]], below: int) -> PoolTexts:
        texts = [readable_text(self.space, row) for row in rows]
        keys = key_array(_NO_KEY if text is None else text_key(text) for text in texts)
        ids = np.array([row["id"] for row in rows], np.int64)
        self.pool = replace(self.pool.merge(ids, keys), below=below)
        return PoolTexts(keys[keys.any(axis=1)], [text for text in texts if text is not None])
