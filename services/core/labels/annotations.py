"""From a task's annotations to one label, and whether the labels so far allow a model. Pure.

The trigger and the trainer count by the same rule: annotations without an answer are dropped, then each annotator's latest
one counts, then ground truth wins, then the majority; a tie needs a third opinion. Every annotation counts or has exactly
one cause why it does not. Malformed annotations raise no error, and their order does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from services.core.domain import LabelSpace, Uncounted
from services.core.labels import is_usable, parse_answer, parse_labels
from services.core.labels.uncounted import (
    Cause,
    labels_by_normalised,
    normalise_label,
    plural,
    uncounted_message,
)

MIN_LABELS = 2
"""Labels needed for a model ..."""
MIN_EXAMPLES = 2
"""... and examples of each, so that one can be evaluated by a model trained on the other."""


_MAX_QUOTED: Final = 80
"""Characters of a label that are kept as an example."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The result of several votes."""

    label: str | None
    """None if there is no vote, or a tie."""
    reason: str = ""
    """Why there is no label: `nothing` or `tie`; else ""."""
    annotation_ids: tuple[int, ...] = ()
    """The annotations that gave the label, ascending."""
    ground_truth: bool = False
    causes: Mapping[Cause, int] = field(default_factory=dict)
    """Annotations that did not count, by cause."""

    @property
    def dropped(self) -> dict[str, int]:
        """Count the annotations that did not count, by reason."""
        found: Counter[str] = Counter()
        for cause, count in self.causes.items():
            found[cause.reason] += count
        return dict(found)


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's vote for a label."""

    label: str
    ground_truth: bool
    annotation_ids: tuple[int, ...]


def resolve(space: LabelSpace, annotations: Iterable[Any]) -> Resolved:
    """Return the label that a task's annotations agree on."""
    causes: Counter[Cause] = Counter()
    latest: dict[str, Mapping[str, Any]] = {}
    for number, annotation in enumerate(sorted(annotations, key=_sort_key)):
        cause = exclusion_cause(space, annotation)
        if cause:
            causes[cause] += 1
            continue
        annotator = _annotator(annotation) or f"unknown {number}"
        causes[Cause("superseded")] += annotator in latest
        latest[annotator] = annotation
    votes = [_vote(space, annotation) for annotation in latest.values()]
    winners = decide(votes)
    causes[Cause("outvoted" if winners else "tied")] += len(votes) - len(winners)
    if not winners:
        return Resolved(None, "tie" if votes else "nothing", causes=dict(+causes))
    ids = tuple(sorted(id_ for vote in winners for id_ in vote.annotation_ids))
    return Resolved(winners[0].label, "", ids, winners[0].ground_truth, dict(+causes))


def decide(votes: Sequence[Vote]) -> list[Vote]:
    """Return the winning votes, all for one label: ground truth first, then the majority; none in a tie."""
    eligible = [vote for vote in votes if vote.ground_truth] or votes
    ranked = Counter(vote.label for vote in eligible).most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return []
    return [vote for vote in eligible if vote.label == ranked[0][0]]


def exclusion_cause(space: LabelSpace, annotation: Any) -> Cause | None:
    """Return why an annotation does not count, regardless of the task's others; None if it does."""
    if not isinstance(annotation, Mapping):
        return Cause("malformed")
    if not is_usable(annotation):
        return Cause("cancelled" if annotation.get("was_cancelled") else "empty")
    answer = parse_answer(space, annotation["result"])
    if not answer.is_answered:
        return (
            Cause("other_control", answer.other_controls[0][:_MAX_QUOTED])
            if answer.other_controls
            else Cause("malformed")
        )
    if not answer.labels:
        return Cause("malformed" if answer.has_unreadable else "empty")
    if len(answer.labels) > 1 or answer.has_unreadable:
        return Cause("several_labels")
    return _unknown_label_cause(space, answer.labels[0])


def _unknown_label_cause(space: LabelSpace, found: str) -> Cause | None:
    if found in space.labels:
        return None
    if found in space.shown:
        return Cause("value_for_alias", found[:_MAX_QUOTED])
    is_alike = normalise_label(found[:_MAX_QUOTED]) in labels_by_normalised(space)
    return Cause("other_spelling" if is_alike else "foreign_label", found[:_MAX_QUOTED])


def untrainable_reason(
    counts: Mapping[str, int], left_out: Sequence[Uncounted] = (), control: str = ""
) -> str | None:
    """Return why the labels do not allow a model yet, with the counts; None if they do.

    `left_out` is what does not count, under the Choices named `control`.
    """
    reason = _too_few({label: count for label, count in counts.items() if count > 0}, left_out)
    return " ".join(filter(None, (reason, uncounted_message(left_out, control)))) if reason else None


def _too_few(found: Mapping[str, int], left_out: Sequence[Uncounted]) -> str | None:
    if not found:
        opening = "No label counts yet" if left_out else "No text has been labelled yet"
        return f"{opening}: {MIN_LABELS} labels with {MIN_EXAMPLES} examples each are needed."
    if len(found) < MIN_LABELS:
        ((label, count),) = found.items()
        return f"{MIN_LABELS} labels with examples are needed, but only {label!r} has any ({plural(count)})."
    enough = [label for label, count in found.items() if count >= MIN_EXAMPLES]
    if len(enough) >= MIN_LABELS:
        return None
    has = f"only {enough[0]!r} has that many ({plural(found[enough[0]])})" if enough else "none has that many"
    singles = f"{len(found) - len(enough)} {'others have' if enough else 'labels have'} one text each"
    if enough and len(found) == MIN_LABELS:
        singles = f"{next(label for label in found if label not in enough)!r} has one text"
    return f"{MIN_LABELS} labels with {MIN_EXAMPLES} examples each are needed, but {has}; {singles}."


def parse_timestamp(value: object) -> float:
    """Return the seconds since the epoch of an ISO 8601 time, 0 if it is not one. As strings, `54Z` would follow `54.3Z`."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return 0.0
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _vote(space: LabelSpace, annotation: Mapping[str, Any]) -> Vote:
    number = annotation.get("id")
    ids = (number,) if isinstance(number, int) else ()
    return Vote(parse_labels(space, annotation["result"])[0], bool(annotation.get("ground_truth")), ids)


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
