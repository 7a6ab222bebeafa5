"""Sentences about a version's accuracy, and about the error of earlier estimates. Pure."""

from __future__ import annotations

from typing import Final

from services.core.domain import (
    Estimate,
    EstimateErrors,
    EstimateScore,
    ExpectedAccuracy,
    Manifest,
    Selection,
)

ACCURACY: Final = "accuracy"
"""What a figure is, unless it says otherwise."""
TOO_FEW: Final = "too few labels to say"
EXPECTED_NOTE: Final = (
    "Accuracy: the share of this project's unlabelled texts that the version is expected to get right, from its calibrated "
    "probabilities."
)
F1_NOTE: Final = (
    "F1: how well the labels that the version is expected to choose for this project's unlabelled texts agree with the right ones, "
    "missing and superfluous ones counted alike, from its calibrated probabilities."
)
CROSS_VALIDATED_NOTE: Final = (
    "Measured by cross-validation on the labelled texts. Where these were chosen by uncertainty, such figures are too low: the texts "
    "are the hardest of the project."
)
MIN_EVALUATED_TEXTS: Final = 20
"""Evaluated texts below which no cross-validated accuracy is shown."""
_SOURCES: Final = {"cross-fit": "cross-validated", "later-labels": "on later annotations"}
_CHOSEN: Final = {
    Selection.UNCERTAIN: "chosen by uncertainty",
    Selection.RANDOM: "chosen as if at random",
    Selection.UNKNOWN: "chosen in an unknown way",
}


def headline(expected: ExpectedAccuracy | None, estimate: Estimate) -> str:
    """Return `about 80 % (±5)`, or why there is no figure; of a version of an earlier release the cross-validated accuracy."""
    if expected is not None:
        return expected_in_words(expected)
    return (
        f"{found}, {evaluated_in_words(estimate)}" if "%" in (found := cross_validated(estimate)) else found
    )


def evaluated_in_words(estimate: Estimate) -> str:
    """Return `cross-validated`, `on a holdout`, or `on later annotations`."""
    return _SOURCES.get(estimate.source, "on a holdout")


def named_headline(manifest: Manifest) -> str:
    """Return `accuracy about 80 % (±5)`, `F1 about 57 % (±7)`, or why there is no figure."""
    found = headline(manifest.expected, manifest.estimate)
    return f"{ACCURACY} {found}" if "%" in found and measure_of(manifest) == ACCURACY else found


def headline_sentence(manifest: Manifest) -> str:
    """Return `Accuracy: about 80 % (±5).`, `F1: about 57 % (±7).`, or why there is no figure."""
    measure = measure_of(manifest)
    found = headline(manifest.expected, manifest.estimate).removeprefix(f"{measure} ")
    return f"{measure[0].upper()}{measure[1:]}: {found}."


def measure_of(manifest: Manifest) -> str:
    """Return what the figure is: `accuracy`, or `F1` where a text may have several labels."""
    if manifest.expected is not None:
        return manifest.expected.measure
    return ACCURACY if manifest.estimate.micro_f1 is None else "F1"


def expected_in_words(found: ExpectedAccuracy) -> str:
    """Return `about 80 % (±5)`, or why there is no figure."""
    if found.accuracy is None:
        return found.reason or TOO_FEW
    measure = f"{found.measure} " if found.measure != ACCURACY else ""
    return f"{measure}about {100 * found.accuracy:.0f} % (±{max(1, round(100 * found.margin))})"


def cross_validated(estimate: Estimate) -> str:
    """Return `47 % (33–61)`: the accuracy out of sample and its 95 % interval."""
    if estimate.judged < MIN_EVALUATED_TEXTS:
        return TOO_FEW
    if estimate.micro_f1 is not None:
        return f"F1 {100 * estimate.micro_f1:.0f} %"
    share = 100 * estimate.right / estimate.judged
    return f"{share:.0f} % ({100 * estimate.low:.0f}–{100 * estimate.high:.0f})"


def score_message(found: EstimateScore | None) -> str:
    """Return how the expected accuracy of a version compares with later annotations; "" before there are enough."""
    if found is None:
        return ""
    points, side = round(100 * abs(found.error)), "high" if found.error > 0 else "low"
    off = f"{_points(points)} too {side}" if points else "right"
    judged = (
        "By these"
        if found.selection is Selection.RANDOM
        else "With the newest version's answers to the other texts"
    )
    return (
        f"{found.right} of {found.annotations} later annotations, {_chosen(found.selection)}, agree with it. {judged}, its accuracy was "
        f"about {100 * found.observed:.0f} % (±{round(196 * found.chance)}), so the estimate was {off}."
    )


def errors_message(found: EstimateErrors | None) -> str:
    """Return `The last 10 estimates were off by 3 points on average …`; "" before any was scored."""
    if found is None:
        return ""
    subject = "The last estimate was" if found.versions == 1 else f"The last {found.versions} estimates were"
    average = "" if found.versions == 1 else " on average"
    each = "" if found.versions == 1 else " each"
    return (
        f"{subject} off by {_points(round(100 * found.error))}{average}, compared with at least {found.annotations} later "
        f"annotations{each}, {_chosen(found.selection)}; chance alone makes about {_points(round(100 * found.chance))}."
    )


def _chosen(selection: Selection) -> str:
    return _CHOSEN.get(selection, _CHOSEN[Selection.UNKNOWN])


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"
