"""From a task's annotations to its label. Pure.

The trigger and the trainer count by the same rule: annotations without an answer are dropped, then each annotator's latest
one counts, then ground truth wins, then the majority; a tie needs a third opinion. Where a text may have several labels, the
majority decides on each of them. Every annotation counts or has exactly one cause why it does not. Malformed annotations raise
no error, and their order does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from services.core.domain import LabelSpace
from services.core.labels import is_usable, parse_answer
from services.core.labels.results import Answer
from services.core.labels.uncounted import Cause, labels_by_normalised, normalise_label

_MAX_QUOTED: Final = 80
"""Characters of a label that are kept as an example."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The result of several votes."""

    labels: tuple[str, ...] | None
    """Exactly one, unless a text may have several, in the space's order; None if there is no vote, or a tie."""
    reason: str = ""
    """Why there is no label: `nothing` or `tie`; else ""."""
    annotation_ids: tuple[int, ...] = ()
    """The annotations that gave the label, ascending."""
    ground_truth: bool = False
    causes: Mapping[Cause, int] = field(default_factory=dict)
    """Annotations that did not count, by cause."""

    @property
    def label(self) -> str | None:
        """The first label; None without one."""
        return self.labels[0] if self.labels else None

    @property
    def dropped(self) -> dict[str, int]:
        """Count the annotations that did not count, by reason."""
        found: Counter[str] = Counter()
        for cause, count in self.causes.items():
            found[cause.reason] += count
        return dict(found)


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's vote."""

    labels: tuple[str, ...]
    ground_truth: bool
    annotation_ids: tuple[int, ...]


def resolve(space: LabelSpace, annotations: Iterable[Any]) -> Resolved:
    """Return the label that a task's annotations agree on."""
    given = list(annotations)
    return _resolve_one(space, given[0]) if len(given) == 1 else _resolve_many(space, given)


def _resolve_one(space: LabelSpace, annotation: Any) -> Resolved:
    """Do so for a single annotation, as nearly all tasks have: a third of the time when millions are read."""
    found = _read_vote(space, annotation)
    if isinstance(found, Cause):
        return Resolved(None, "nothing", causes={found: 1})
    return Resolved(found.labels, "", found.annotation_ids, found.ground_truth)


def _resolve_many(space: LabelSpace, annotations: Iterable[Any]) -> Resolved:
    causes: Counter[Cause] = Counter()
    latest: dict[str, Vote] = {}
    for number, annotation in enumerate(sorted(annotations, key=_sort_key)):
        found = _read_vote(space, annotation)
        if isinstance(found, Cause):
            causes[found] += 1
            continue
        annotator = _annotator(annotation) or f"unknown {number}"
        causes[Cause("superseded")] += annotator in latest
        latest[annotator] = found
    votes = list(latest.values())
    labels, winners = _decide_each(votes, space) if space.multiple else _decide_one(votes)
    causes[Cause("tied" if labels is None else "outvoted")] += len(votes) - len(winners)
    if labels is None:
        return Resolved(None, "tie" if votes else "nothing", causes=dict(+causes))
    counted = winners or _eligible(votes)  # of several labels, perhaps no vote was for exactly these
    ids = tuple(sorted(id_ for vote in counted for id_ in vote.annotation_ids))
    return Resolved(labels, "", ids, counted[0].ground_truth, dict(+causes))


def decide(votes: Sequence[Vote]) -> list[Vote]:
    """Return the winning votes, all for the same labels: ground truth first, then the majority; none in a tie."""
    eligible = _eligible(votes)
    ranked = Counter(vote.labels for vote in eligible).most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return []
    return [vote for vote in eligible if vote.labels == ranked[0][0]]


def _decide_one(votes: Sequence[Vote]) -> tuple[tuple[str, ...] | None, list[Vote]]:
    winners = decide(votes)
    return (winners[0].labels if winners else None), winners


def _decide_each(votes: Sequence[Vote], space: LabelSpace) -> tuple[tuple[str, ...] | None, list[Vote]]:
    """Return the labels that more than half of the votes chose, and the votes for exactly these.

    None if a label has exactly half of the votes.
    """
    eligible = _eligible(votes)
    counts = Counter(label for vote in eligible for label in vote.labels)
    if not eligible or any(2 * count == len(eligible) for count in counts.values()):
        return None, []
    labels = _in_order(space, (label for label, count in counts.items() if 2 * count > len(eligible)))
    return labels, [vote for vote in eligible if vote.labels == labels]


def _eligible(votes: Sequence[Vote]) -> Sequence[Vote]:
    return [vote for vote in votes if vote.ground_truth] or votes


def exclusion_cause(space: LabelSpace, annotation: Any) -> Cause | None:
    """Return why an annotation does not count, regardless of the task's others; None if it does."""
    found = _read_vote(space, annotation)
    return found if isinstance(found, Cause) else None


def _read_vote(space: LabelSpace, annotation: Any) -> Vote | Cause:
    """Return an annotation's vote, or why it is none; its result is read once, since millions are."""
    if not isinstance(annotation, Mapping):
        return Cause("malformed")
    if not is_usable(annotation, empty_counts=space.empty_counts):
        return Cause("cancelled" if annotation.get("was_cancelled") else "empty")
    answer = parse_answer(space, annotation["result"])
    if cause := _cause_of(space, answer, annotation["result"]):
        return cause
    number = annotation.get("id")
    ids = (number,) if isinstance(number, int) else ()
    return Vote(_in_order(space, answer.labels), bool(annotation.get("ground_truth")), ids)


def _cause_of(space: LabelSpace, answer: Answer, result: object) -> Cause | None:
    if not answer.is_answered:
        return _unanswered_cause(space, answer, result)
    if answer.has_unreadable and (space.multiple or not answer.labels):
        return Cause("malformed")
    is_one = not answer.has_unreadable and len(answer.labels) == 1
    if not (answer.labels or space.empty_counts) or not (space.multiple or is_one):
        return Cause("several_labels" if answer.labels else "empty")
    unknown = (_unknown_label_cause(space, label) for label in answer.labels)
    return next(filter(None, unknown), None)


def _unanswered_cause(space: LabelSpace, answer: Answer, result: object) -> Cause | None:
    if space.empty_counts and (answer.other_controls or not result):
        return None
    if answer.other_controls:
        return Cause("other_control", answer.other_controls[0][:_MAX_QUOTED])
    return Cause("malformed")


def _unknown_label_cause(space: LabelSpace, found: str) -> Cause | None:
    if found in space.labels:
        return None
    if found in space.shown:
        return Cause("value_for_alias", found[:_MAX_QUOTED])
    is_alike = normalise_label(found[:_MAX_QUOTED]) in labels_by_normalised(space)
    return Cause("other_spelling" if is_alike else "foreign_label", found[:_MAX_QUOTED])


def parse_timestamp(value: object) -> float:
    """Return the seconds since the epoch of an ISO 8601 time, 0 if it is not one. As strings, `54Z` would follow `54.3Z`."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return 0.0
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _in_order(space: LabelSpace, labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(labels, key=space.labels.index))


def _sort_key(annotation: Any) -> tuple[float, int, str]:
    """Sort annotations, oldest first; the last element only makes the order total."""
    if not isinstance(annotation, Mapping):
        return (0.0, -1, repr(annotation))
    number = annotation.get("id")
    return (
        parse_timestamp(annotation.get("updated_at")),
        number if isinstance(number, int) else -1,
        repr(annotation),
    )


def _annotator(annotation: Mapping[str, Any]) -> str:
    """Return the annotator's id; "" if Label Studio does not name one, as for a deleted user."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id")
    return "" if who is None else str(who)
