"""Figures in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.adapter.pages import formatting
from services.core.domain import Estimate, ExpectedAccuracy, Report, Uncounted
from tests.support.manifests import build_manifest


def test_accuracy_is_the_expected_one() -> None:
    manifest = build_manifest("v-1")
    assert formatting.accuracy(manifest) == "75 % (60–86), cross-validated"
    known = replace(manifest, expected=ExpectedAccuracy(0.8, 0.05, 100))
    assert formatting.accuracy(known) == "about 80 % (±5)"


def test_near_duplicates_are_told_of_where_they_were_looked_for() -> None:
    found = Estimate(40, 30, 0.6, 0.86, 0.7, "cross-fit", 36, 26)
    assert formatting.without_near_duplicates(found) == "72 % on the 36 texts that are not near-duplicates"
    assert formatting.without_near_duplicates(Estimate(40, 30, 0.6, 0.86, 0.7, "cross-fit")) == ""


@pytest.mark.parametrize(
    ("seconds", "actual"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")]
)
def test_spans(seconds: float, actual: str) -> None:
    assert formatting.duration(seconds) == actual


def test_a_report_of_an_earlier_release_counts_by_reason_alone() -> None:
    assert formatting.uncounted_in_report(Report(dropped={"cancelled": 1, "no_text": 0})) == (
        Uncounted("cancelled", 1),
    )
    found = (Uncounted("foreign_label", 2, ('"Shipping"',)),)
    assert formatting.uncounted_in_report(Report(dropped={"foreign_label": 2}, not_counted=found)) == found


def test_percent_of_none_is_a_dash() -> None:
    assert (formatting.percent(None), formatting.percent(0.456)) == ("–", "46 %")


def test_only_backticks_become_markup() -> None:
    actual = formatting.with_code("Run `fitloop doctor` <b>now</b>")
    assert actual == "Run <code>fitloop doctor</code> &lt;b&gt;now&lt;/b&gt;"
