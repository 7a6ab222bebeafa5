"""core.report_messages: sentences about texts and annotators."""

from __future__ import annotations

from services.core.domain import CutTexts, Disagreement, Estimate, NearDuplicates
from services.core.report_messages import cut_message, disagreement_message, near_duplicates_message

ESTIMATE = Estimate(100, 80, 0.7, 0.9, 0.8, "cross-fit")


def test_truncated_texts_are_compared_with_the_others() -> None:
    assert cut_message(CutTexts(10, 4), ESTIMATE) == (
        "Of the truncated texts that were evaluated, 4 of 10 are answered correctly; of the others, 76 of 90."
    )
    assert cut_message(CutTexts(100, 80), ESTIMATE).endswith("80 of 100 are answered correctly.")


def test_near_duplicates_are_counted() -> None:
    assert near_duplicates_message(NearDuplicates(), 50) == "No text is nearly equal to one of another fold."
    assert near_duplicates_message(NearDuplicates(4), 50).startswith("4 of 50 texts are nearly equal")
    assert "1 has another label" in near_duplicates_message(NearDuplicates(2, 1), 50)


def test_annotators_are_compared() -> None:
    assert disagreement_message(Disagreement(10, 7, 1)).startswith(
        "Annotators agree on 7 of 10 tasks that two or more of them labelled (70 %); 2 were decided by majority, and 1 is tied."
    )
    assert "not known" in disagreement_message(Disagreement())


def test_earlier_releases_say_nothing() -> None:
    assert cut_message(None, ESTIMATE) == cut_message(CutTexts(), ESTIMATE) == ""
    assert near_duplicates_message(None, 5) == disagreement_message(None) == ""
