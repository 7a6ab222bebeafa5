"""Whether the labels so far allow a model. Pure; the trigger and the trainer ask the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.core.domain import Uncounted
from services.core.labels.mentions import mention, mention_all
from services.core.labels.uncounted import plural, uncounted_message

MIN_LABELS: Final = 2
"""Labels with an example that a model needs."""
NOTHING_LABELLED: Final = "No task has been labelled yet: one is needed."
"""Why a class of the operator's, which reads any label config, cannot be trained."""


def untrainable_reason(
    counts: Mapping[str, int],
    left_out: Sequence[Uncounted] = (),
    control: str = "",
    texts: int | None = None,
) -> str | None:
    """Return why the labels do not allow a model yet, with the counts; None if they do.

    `left_out` is what does not count, under `control`, as the label space formats it. `texts`: all labelled texts, where one may have several
    labels; None where each has one.
    """
    found = {label: count for label, count in counts.items() if count > 0}
    reason = _too_few(found, left_out) if texts is None else _too_few_of_each(found, texts, left_out)
    return " ".join(filter(None, (reason, uncounted_message(left_out, control)))) if reason else None


def _too_few(found: Mapping[str, int], left_out: Sequence[Uncounted]) -> str | None:
    if not found:
        return f"{_nothing(left_out)}: {MIN_LABELS} labels with an example each are needed."
    if len(found) < MIN_LABELS:
        ((label, count),) = found.items()
        return f"{MIN_LABELS} labels with examples are needed, but only {mention(label)} has any ({plural(count)})."
    return None


def _too_few_of_each(found: Mapping[str, int], texts: int, left_out: Sequence[Uncounted]) -> str | None:
    """Say what is missing where a text may have several labels: a label that some texts have and others do not."""
    needed = "a label is needed that one text has and another does not"
    if not texts:
        return f"{_nothing(left_out)}: {needed}."
    if any(count < texts for count in found.values()):
        return None
    same = f"has the same labels ({mention_all(tuple(found))})" if found else "has no label"
    return f"{needed[0].upper()}{needed[1:]}, but each of {plural(texts)} {same}."


def _nothing(left_out: Sequence[Uncounted]) -> str:
    return "No label counts yet" if left_out else "No text has been labelled yet"
