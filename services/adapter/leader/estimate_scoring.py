"""Has a worker compare the expected accuracy of one project's versions with the annotations that came after them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.workers import Finished
from services.adapter.training.estimate_scorer import EstimateScorer
from services.adapter.training.label_reader import Reading
from services.core.domain import EstimateErrors, LabelSpace
from services.core.labels.index import LabelIndex
from services.core.redaction import safe_reason

log = structlog.get_logger()
_PAUSE_SECONDS: Final = 60.0
"""Between two passes while labels change."""
_SHARE: Final = 100
"""A pass is followed by a pause of this many times its length: large pools take no more than 1 % of a core."""


class EstimateScoring:
    """The scores of one project's versions. Only the leader's thread may call it."""

    def __init__(self, project_key: str, project_id: int, context: ReconcilerContext) -> None:
        self.due_at = float("inf")
        """When the next pass is due; infinity if no label has changed, or one is in flight."""
        self.errors: EstimateErrors | None = None
        """Of the newest versions; None before any was scored."""
        self._scorer = EstimateScorer(context.registry, project_key, lambda: context.promotions.table.term)
        self._key = ("score estimates", project_id)
        self._project_id = project_id
        self._context = context
        self._not_before = 0.0
        self._scored = ""
        """Digest of the labels that the last pass was about."""

    def step(self, reading: Reading | None, versions: Sequence[str], now: float) -> None:
        """Give a worker a pass, if labels have changed since the last one. `versions`: the newest, newest first."""
        self.due_at = float("inf")
        workers = self._context.workers
        if reading is None or reading.space is None or workers.is_busy(self._key):
            return
        if reading.digest == self._scored:
            return
        if now < self._not_before:
            self.due_at = self._not_before
            return
        work = partial(_timed, self._scorer, tuple(versions), reading.index, reading.space)
        if workers.submit(self._key, work, self._done):
            self._scored, self._not_before = reading.digest, now + _PAUSE_SECONDS

    def _done(self, finished: Finished[tuple[EstimateErrors | None, float]]) -> None:
        now = self._context.clock()
        if finished.error is None:
            self.errors, seconds = finished.result()
            self._not_before = max(self._not_before, now + _SHARE * seconds)
        else:
            self._scored, self._not_before = "", now + _PAUSE_SECONDS
            log.warning("estimates_not_scored", project=self._project_id, reason=safe_reason(finished.error))
        self._context.queue.add(self._project_id, now)


def _timed(
    scorer: EstimateScorer, versions: Sequence[str], index: LabelIndex, space: LabelSpace
) -> tuple[EstimateErrors | None, float]:
    began = time.monotonic()
    return scorer.score(versions, index, space), time.monotonic() - began
