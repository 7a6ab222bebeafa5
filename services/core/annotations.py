"""Annotations to one label: what a task's annotators decided, and whether the labels so far allow a model.

The trigger and the trainer count by this same rule: what says nothing is dropped, then each
annotator's latest word counts, then ground truth wins, then the majority; a tie needs a third opinion. Everything is
pure, none of it raises for malformed annotations, and the order in which they come does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.core.domain import LabelSpace
from services.core.labels import is_usable, labels_of

LEAST_LABELS = 2
"""Labels that must be told apart before a model can be made ..."""
LEAST_EXAMPLES = 2
"""... each with so many examples, so that one can be judged by a model that learnt from the other."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What several votes come to."""

    label: str | None
    """None where nothing was said, or as much for one label as for another."""
    reason: str = ""
    """Why there is no label: `nothing` or `tie`; "" where there is one."""
    annotation_ids: tuple[int, ...] = ()
    """The annotations that gave the label, ascending."""
    ground_truth: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Annotations that did not count, by reason: cancelled, empty, other_control, foreign_label, several_labels,
    malformed, superseded (by the same annotator's later word), outvoted."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One voice for a label."""

    label: str
    ground_truth: bool
    annotation_ids: tuple[int, ...]


def resolve(space: LabelSpace, annotations: Iterable[Any]) -> Resolved:
    """The label that a task's annotations agree on."""
    dropped: Counter[str] = Counter()
    latest: dict[str, Mapping[str, Any]] = {}
    for number, annotation in enumerate(sorted(annotations, key=_age)):
        reason = why_dropped(space, annotation)
        if reason:
            dropped[reason] += 1
            continue
        annotator = _annotator(annotation) or f"unknown {number}"
        dropped["superseded"] += annotator in latest
        latest[annotator] = annotation
    votes = [_vote(space, annotation) for annotation in latest.values()]
    winners = decide(votes)
    if not winners:
        return Resolved(None, "tie" if votes else "nothing", dropped=dict(+dropped))
    dropped["outvoted"] += len(votes) - len(winners)
    ids = tuple(sorted(id_ for vote in winners for id_ in vote.annotation_ids))
    return Resolved(winners[0].label, "", ids, winners[0].ground_truth, dict(+dropped))


def decide(votes: Sequence[Vote]) -> list[Vote]:
    """The votes that win, all for one label: ground truth before the rest, then the majority; none in a tie."""
    eligible = [vote for vote in votes if vote.ground_truth] or votes
    ranked = Counter(vote.label for vote in eligible).most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return []
    return [vote for vote in eligible if vote.label == ranked[0][0]]


def why_dropped(space: LabelSpace, annotation: Any) -> str:
    """Why an annotation does not count (see Resolved.dropped); "" where it does."""
    if not isinstance(annotation, Mapping):
        return "malformed"
    if not is_usable(annotation):
        return "cancelled" if annotation.get("was_cancelled") else "empty"
    labels = labels_of(space, annotation["result"])
    if not labels:
        return "other_control"
    if len(labels) > 1:
        return "several_labels"
    return "" if labels[0] in space.labels else "foreign_label"


def why_not_trainable(counts: Mapping[str, int]) -> str | None:
    """The sentence why examples of each label do not allow a model yet, with the figures; None where they do."""
    found = {label: count for label, count in counts.items() if count > 0}
    if not found:
        return f"Nobody has labelled a text yet: {LEAST_LABELS} labels with {LEAST_EXAMPLES} examples each are needed."
    if len(found) < LEAST_LABELS:
        ((label, count),) = found.items()
        return (
            f"{LEAST_LABELS} labels with examples are needed, and only {label!r} has any ({counted(count)})."
        )
    enough = [label for label, count in found.items() if count >= LEAST_EXAMPLES]
    if len(enough) >= LEAST_LABELS:
        return None
    has = f"only {enough[0]!r} has as many ({counted(found[enough[0]])})" if enough else "none has as many"
    singles = f"{len(found) - len(enough)} {'others have' if enough else 'labels have'} one text each"
    if enough and len(found) == LEAST_LABELS:
        singles = f"{next(label for label in found if label not in enough)!r} has one text"
    return f"{LEAST_LABELS} labels with {LEAST_EXAMPLES} examples each are needed, and {has}; {singles}."


def counted(count: int, noun: str = "text") -> str:
    """`1 text`, `14 texts`."""
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def moment(value: object) -> float:
    """Seconds since the epoch of an ISO 8601 time, 0 for what is none; as strings, `54Z` would follow `54.3Z`."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return 0.0
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _vote(space: LabelSpace, annotation: Mapping[str, Any]) -> Vote:
    number = annotation.get("id")
    ids = (number,) if isinstance(number, int) else ()
    return Vote(labels_of(space, annotation["result"])[0], bool(annotation.get("ground_truth")), ids)


def _age(annotation: Any) -> tuple[float, int, str]:
    """Orders an annotator's words, oldest first; the last element only makes the order a total one."""
    if not isinstance(annotation, Mapping):
        return (0.0, -1, repr(annotation))
    number = annotation.get("id")
    return (moment(annotation.get("updated_at")), number if isinstance(number, int) else -1, repr(annotation))


def _annotator(annotation: Mapping[str, Any]) -> str:
    """Whose word it is; "" where Label Studio does not say, as for a user who was deleted."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id")
    return "" if who is None else str(who)
