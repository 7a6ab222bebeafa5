"""Format numbers, times and reports for the pages. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from services.adapter.pages.help import help_sentences
from services.core.accuracy import (
    MIN_EVALUATED_TEXTS,
    cross_validated,
    errors_message,
    evaluated_in_words,
    headline,
    headline_sentence,
    named_headline,
    score_message,
)
from services.core.domain import Estimate, Manifest, Report, Uncounted
from services.core.labels import uncounted
from services.core.labels.uncounted import uncounted_phrases
from services.core.learning_curve import outlook_message
from services.core.suspects import suspects_url


def has_enough_texts(estimate: Estimate) -> bool:
    return estimate.judged >= MIN_EVALUATED_TEXTS


def accuracy(manifest: Manifest) -> str:
    """Return `about 80 % (±5)`: the accuracy to expect of a version, or why there is no figure."""
    return headline(manifest.expected, manifest.estimate)


def without_near_duplicates(estimate: Estimate) -> str:
    """Return the accuracy without near-duplicate texts; "" if it was not measured or too few texts are left."""
    judged, right = estimate.judged_without_near_duplicates, estimate.right_without_near_duplicates
    if judged < MIN_EVALUATED_TEXTS or judged == estimate.judged:
        return ""
    share = f"{100 * right / judged:.0f} %"
    if estimate.micro_f1 is not None:
        return f"all labels right in {share} of the {judged} texts that are not near-duplicates"
    return f"{share} on the {judged} texts that are not near-duplicates"


def percent(value: float | None) -> str:
    """Return a ratio in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.0f} %"


def timestamp(seconds: float) -> str:
    """Return a time for people: `2026-01-31 12:00 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def iso_timestamp(seconds: float) -> str:
    """Return a time for the datetime attribute."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """Return `40 s`, `3 min` or `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def capitalized(message: str) -> str:
    """Capitalize the first letter only."""
    return message[:1].upper() + message[1:]


def megabytes(size: int) -> str:
    """Return `115.4 MB`."""
    return f"{size / 1e6:.1f} MB"


def texts(count: int) -> str:
    """Return `1 text` or `2 texts`."""
    return "1 text" if count == 1 else f"{count} texts"


def uncounted_in_report(report: Report) -> tuple[Uncounted, ...]:
    """Return what a run left out; reports of earlier releases hold only counts by reason."""
    return report.not_counted or tuple(
        Uncounted(name, count) for name, count in report.dropped.items() if count
    )


def with_code(message: str) -> Markup:
    """Escape a message and mark text between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(message))))  # noqa: S704  # escaped before


FILTERS: Final[dict[str, Any]] = {
    "accuracy": accuracy,
    "named_accuracy": named_headline,
    "accuracy_sentence": headline_sentence,
    "cross_validated": cross_validated,
    "evaluated": evaluated_in_words,
    "score_message": score_message,
    "errors_message": errors_message,
    "without_near_duplicates": without_near_duplicates,
    "percent": percent,
    "timestamp": timestamp,
    "iso_timestamp": iso_timestamp,
    "duration": duration,
    "capitalized": capitalized,
    "megabytes": megabytes,
    "texts": texts,
    "uncounted_in_report": uncounted_in_report,
    "phrases": uncounted_phrases,
    "truncation": uncounted.truncation_message,
    "help_sentences": help_sentences,
    "forecast": outlook_message,
    "suspects_url": lambda found, label_studio, project: suspects_url(label_studio, project, found),
    "with_code": with_code,
}
