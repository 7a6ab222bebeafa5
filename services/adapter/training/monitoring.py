"""What polls reveal beside the labels: a lost webhook, and how often annotators agree with suggestions. Pure.

Labels that no event announced indicate a lost webhook; an event may come a little before the poll that finds its label, or a
little after it. Agreement is biased upwards, because annotators tend to accept suggestions: it is not accuracy and never called so,
but a drop deserves attention. Label Studio's API does not expose which prediction it noted on an annotation, so the suggestion is the
one that the annotation says it started from, or else the newest that was stored before the annotation was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.adapter.state.board import Agreement
from services.adapter.training.help_records import shown_prediction
from services.core.domain import LabelSpace
from services.core.labels import parse_labels
from services.core.labels.annotations import exclusion_cause, parse_timestamp

GRACE_SECONDS: Final = 30.0
_AGREEMENT_SECONDS: Final = 60.0
"""Between two comparisons of labels with suggestions, which cost a request of their own."""


@dataclass(slots=True)
class WebhookMonitor:
    """Watches for a lost webhook of one project."""

    last_event_at: float | None = None
    """When Label Studio last sent an event of any kind; None if that is not known."""
    _read_at: float | None = None
    _suspected_at: float | None = None

    def event_received(self, at: float) -> None:
        """Note an event."""
        self.last_event_at = max(at, self.last_event_at or at)
        self._suspected_at = None

    def restore(self, at: float | None) -> None:
        """Note when an earlier leader received the last one."""
        self.last_event_at = self.last_event_at or at

    def labels_read(self, now: float, *, changed: bool) -> None:
        """Note a poll, and whether it found other labels than the one before. The first finds nothing."""
        since, self._read_at = self._read_at, now
        if since is None or not changed or self._suspected_at is not None:
            return
        if self.last_event_at is None or self.last_event_at < since - GRACE_SECONDS:
            self._suspected_at = now

    def due_at(self) -> float:
        """Return when `is_silent` may become true; infinity if nothing is suspected."""
        return float("inf") if self._suspected_at is None else self._suspected_at + GRACE_SECONDS

    def is_silent(self, now: float) -> bool:
        """Return whether a change was not announced; True once per change."""
        if self._suspected_at is None or now < self._suspected_at + GRACE_SECONDS:
            return False
        self._suspected_at = None
        return True


MAX_ANNOTATIONS: Final = 200
"""How many annotations are compared."""


@dataclass(slots=True)
class AgreementMonitor:
    """Compares labels of one project with suggestions, at intervals while labels change."""

    value: Agreement | None = None
    due: bool = True
    """Whether labels changed since the last comparison."""
    compared_at: float = float("-inf")

    def reset(self) -> None:
        """Forget the agreement: labels answer another question now."""
        self.value, self.compared_at = None, float("-inf")

    def is_due(self, now: float) -> bool:
        return self.due and now >= self.compared_at + _AGREEMENT_SECONDS

    def update(self, space: LabelSpace, tasks: Iterable[Mapping[str, Any]], now: float) -> None:
        """Compute the agreement of the tasks changed last."""
        self.value, self.due = agreement_of(space, tasks), False
        if self.value.annotations:  # the first label with a suggestion need not wait
            self.compared_at = now


def agreement_of(
    space: LabelSpace, tasks: Iterable[Mapping[str, Any]], most: int = MAX_ANNOTATIONS
) -> Agreement:
    """Return the agreement of the newest `most` annotations of these tasks that had a suggestion."""
    found = [
        (
            parse_timestamp(annotation.get("created_at")),
            set(parse_labels(space, annotation["result"])) == set(suggested),
        )
        for task in tasks
        for annotation in task.get("annotations") or ()
        if exclusion_cause(space, annotation) is None and (suggested := _suggested(space, task, annotation))
    ]
    newest = sorted(found, key=lambda one: one[0], reverse=True)[:most]
    return Agreement(sum(agreed for _, agreed in newest), len(newest))


def _suggested(space: LabelSpace, task: Mapping[str, Any], annotation: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of the suggestion; () if there was none."""
    shown = shown_prediction(task, annotation)
    return parse_labels(space, shown.get("result")) if shown else ()
