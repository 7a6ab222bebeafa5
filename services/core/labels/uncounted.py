"""Messages about annotations and tasks that do not count, and about texts that were truncated. Pure.

Reasons are stable names that documents and metrics contain. Examples are labels and names of controls, never a task's text.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, NamedTuple

from services.core.domain import LabelSpace, Truncation, Uncounted

ANNOTATION_REASONS: Final = {
    "foreign_label": "with a label that {control} does not have",
    "other_spelling": "with a label that {control} spells differently",
    "value_for_alias": "with the value of a choice in {control} whose alias is stored instead",
    "other_control": "of a control other than {control}",
    "several_labels": "with several labels",
    "malformed": "unreadable",
    "empty": "without an answer",
    "cancelled": "skipped",
    "tied": "tied with an annotation with another label, so another opinion is needed",
    "superseded": "superseded by a newer one from the same annotator",
    "outvoted": "outvoted by others",
}
"""Reasons why an annotation does not count."""

TASK_REASONS: Final = {
    "no_text": "without a text",
    "duplicate_text": "with the same text as another task",
    "outvoted_duplicate": "with a text that more tasks give another label",
    "conflicting_duplicates": "with a text that other tasks give another label",
}
"""Reasons why a task gives no example of its own."""

_RUN_REASONS: Final = {
    "deleted_task": "deleted since the run was requested",
    "changed_text": "with a text that was edited since the run was requested",
    # of reports of release 0.1.0
    "malformed_task": "unreadable",
    "repeated_task": "read twice",
    "tie": "with a tied vote between labels",
}
"""Reasons why a run cannot use a task."""

_DRAFT_REASONS: Final = {"draft": "not submitted"}

_REASONS: Final = {
    "annotation": ANNOTATION_REASONS,
    "task": {**TASK_REASONS, **_RUN_REASONS},
    "draft": _DRAFT_REASONS,
}

_TO_CORRECT: Final = frozenset({"foreign_label", "other_spelling", "value_for_alias"})

_ADVICE: Final = (
    "An annotation counts only if it contains a choice exactly as written (its alias, if it has one): correct the annotations or "
    "the label config."
)

MAX_EXAMPLES: Final = 3

_MAX_QUOTED: Final = 40

_MIN_SIMILARITY: Final = 0.75
"""Similarity (difflib's) from which another label is suggested ..."""

_MAX_LABELS: Final = 1000
"""... and number of labels above which none is."""


class Cause(NamedTuple):
    """Why an annotation or a task does not count."""

    reason: str
    """One of ANNOTATION_REASONS, or of the reasons for tasks and drafts."""
    found_value: str = ""
    """The label or control found instead, if that helps; may be truncated."""


def summarise(causes: Mapping[Cause, int], space: LabelSpace) -> tuple[Uncounted, ...]:
    """Sum counts by reason, in a fixed order, with a few examples each."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (reason, what), count in causes.items():
        found[reason][what] += count
    return tuple(
        Uncounted(reason, found[reason].total(), _examples(reason, found[reason], space))
        for reason in sorted(found, key=_rank)
        if found[reason].total()
    )


def uncounted_message(found: Iterable[Uncounted], control: str) -> str:
    """Return `24 annotations do not count: 20 with a label that …, 4 skipped.`; "" if all count.

    `control`: that of the label space, "" if there is none.
    """
    rows = list(found)
    parts = [
        _noun_message(noun, [row for row in rows if _noun(row.reason) == noun], control)
        for noun in (*_REASONS, "case")
    ]
    if any(row.reason in _TO_CORRECT for row in rows):
        parts.append(_ADVICE)
    return " ".join(filter(None, parts))


def uncounted_phrases(found: Iterable[Uncounted], control: str) -> list[str]:
    """Return one phrase per reason: `3 annotations with several labels`."""
    return [f"{plural(row.count, _noun(row.reason))} {_reason_words(row, control)}" for row in found]


def plural(count: int, noun: str = "text") -> str:
    """Return `1 text`, `14 texts`."""
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _noun_message(noun: str, rows: Sequence[Uncounted], control: str) -> str:
    if not rows:
        return ""
    total = sum(row.count for row in rows)
    verb = "does" if total == 1 else "do"
    if len(rows) == 1:
        return f"{plural(total, noun)} {verb} not count: {_reason_words(rows[0], control)}."
    whys = ", ".join(f"{row.count} {_reason_words(row, control)}" for row in rows)
    return f"{plural(total, noun)} {verb} not count: {whys}."


def _reason_words(row: Uncounted, control: str) -> str:
    tag = control or "the label config"
    words = _REASONS.get(_noun(row.reason), {}).get(row.reason, f"for reason {row.reason!r}")
    examples = f" ({'; '.join(row.examples)})" if row.examples else ""
    return words.format(control=tag) + examples


def _noun(reason: str) -> str:
    """Return the noun that a reason is about; "case" for a reason of a newer release."""
    return next((noun for noun, reasons in _REASONS.items() if reason in reasons), "case")


def _rank(reason: str) -> int:
    order = [name for reasons in _REASONS.values() for name in reasons]
    return order.index(reason) if reason in order else len(order)


def _examples(reason: str, found: Mapping[str, int], space: LabelSpace) -> tuple[str, ...]:
    """Return the most frequent examples."""
    ranked = sorted((what for what in found if what), key=lambda what: (-found[what], what))
    return tuple(_example(reason, what, space) for what in ranked[:MAX_EXAMPLES])


def _example(reason: str, what: str, space: LabelSpace) -> str:
    meant = _closest_label(what, space) if reason in _TO_CORRECT else None
    if meant is None:
        return quote(what)
    if reason == "foreign_label":
        return f"{quote(what)}: did you mean {quote(meant)}?"
    return f"{quote(what)} for {quote(meant)}"


@lru_cache(maxsize=2048)
def _closest_label(what: str, space: LabelSpace) -> str | None:
    """Return the most similar label. Cached: it is asked for at each poll, and slow with many labels."""
    names = labels_by_normalised(space)
    if (name := normalise_label(what)) in names:
        return names[name]
    found = get_close_matches(name, names, n=1, cutoff=_MIN_SIMILARITY) if len(names) <= _MAX_LABELS else []
    return names[found[0]] if found else None


@lru_cache(maxsize=512)
def labels_by_normalised(space: LabelSpace) -> Mapping[str, str]:
    """Map the normalised name of each label, and of what the editor shows for it, to the label."""
    names = (*space.shown.items(), *((label, label) for label in space.labels))
    return {normalise_label(name): label for name, label in names}


def normalise_label(label: str) -> str:
    """Remove differences of writing: capitals, spaces, composed letters."""
    return "".join(unicodedata.normalize("NFKC", label).casefold().split())


def quote(text: str) -> str:
    """Quote a text, truncated, with control characters escaped."""
    whole = text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text that can be sent
    return json.dumps(whole if len(whole) <= _MAX_QUOTED else f"{whole[:_MAX_QUOTED]}…", ensure_ascii=False)


_STEP: Final = 64

_MAX_LENGTH: Final = 8192
"""The maximum of FITLOOP_MAX_LENGTH."""


def truncation_message(found: Truncation | None) -> str:
    """Return how many texts were truncated and what more tokens would cost; "" if none was, or it is unknown."""
    if found is None or not found.cut:
        return ""
    were = "was" if found.cut == 1 else "were"
    cut = (
        f"{found.cut} of {plural(found.texts)} {were} truncated at {found.max_length} tokens, and the rest is not read; "
        f"the longest has {found.longest}."
    )
    return f"{cut} {_length_advice(found)}"


def required_length(found: Truncation) -> int:
    """Return the tokens needed to read every text, in steps of 64, within the limits of model and setting."""
    steps = -(-found.longest // _STEP) * _STEP
    return min(steps, _MAX_LENGTH, found.most or _MAX_LENGTH)


def _length_advice(found: Truncation) -> str:
    length = required_length(found)
    if length <= found.max_length:
        limit = "the base model cannot read more" if found.most else "FITLOOP_MAX_LENGTH cannot be higher"
        return f"This is the maximum, since {limit}: set BASELINE_MODEL_NAME to a model with more positions, or shorten the texts."
    rest = "all of it" if length >= found.longest else "as much as the base model can"
    return (
        f"FITLOOP_MAX_LENGTH={length} would read {rest}, at about {found.cost:.1f} times the compute, in training and for "
        "suggestions."
    )
