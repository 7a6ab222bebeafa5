"""Whether Label Studio announces what changes: labels that no event has told of are the mark of a lost webhook. Pure.

An event may come a little before the look that finds its label, or a little after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.adapter.state.board import Agreement
from services.core.domain import LabelSpace
from services.core.labels import parse_labels
from services.core.labels.annotations import exclusion_cause, parse_timestamp

GRACE_SECONDS: Final = 30.0


@dataclass(slots=True)
class WebhookMonitor:
    """Of one project."""

    last_event_at: float | None = None
    """When Label Studio last sent an event of any kind; None where that is not known."""
    _read_at: float | None = None
    _suspected_at: float | None = None

    def event_received(self, at: float) -> None:
        """An event."""
        self.last_event_at = max(at, self.last_event_at or at)
        self._suspected_at = None

    def restore(self, at: float | None) -> None:
        """When an earlier leader last heard of one."""
        self.last_event_at = self.last_event_at or at

    def labels_read(self, now: float, *, changed: bool) -> None:
        """A look at Label Studio, and whether it found other labels than the one before. The first finds nothing."""
        since, self._read_at = self._read_at, now
        if since is None or not changed or self._suspected_at is not None:
            return
        if self.last_event_at is None or self.last_event_at < since - GRACE_SECONDS:
            self._suspected_at = now

    def is_silent(self, now: float) -> bool:
        """Whether a change stayed unannounced; said once of each."""
        if self._suspected_at is None or now < self._suspected_at + GRACE_SECONDS:
            return False
        self._suspected_at = None
        return True


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
