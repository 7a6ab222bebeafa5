"""core.confusions: pairs of labels from reports of this release and of earlier ones."""

from __future__ import annotations

from services.core.confusions import ConfusedPair, largest_confusions
from services.core.domain import Confusion, LabelMetrics, Report, WrongPrediction

LABELS = ("A", "B", "C")
PER_LABEL = tuple(LabelMetrics(label, judged=10) for label in LABELS)


def test_listed_confusions_have_names_and_shares() -> None:
    report = Report(labels=LABELS, per_label=PER_LABEL, confusions=(Confusion(0, 2, 4, (7, 8)),))
    (found,) = largest_confusions(report)
    assert found == ConfusedPair("A", "C", 4, 10, (7, 8))
    assert found.share == 0.4


def test_an_earlier_release_has_them_in_its_matrix() -> None:
    wrong = tuple(WrongPrediction(number, "B", "A", 0.9) for number in (3, 4, 5))
    report = Report(labels=LABELS, confusion=((5, 1, 0), (3, 5, 0), (0, 0, 9)), wrong=wrong)
    first, second = largest_confusions(report)
    assert (first.true, first.predicted, first.texts, first.tasks, first.share) == ("B", "A", 3, (3, 4), None)
    assert (second.true, second.predicted, second.tasks) == ("A", "B", ())


def test_broken_reports_have_no_confusions() -> None:
    assert largest_confusions(Report()) == ()
    assert largest_confusions(Report(labels=("A",), confusions=(Confusion(0, 4, 1),))) == ()
    assert largest_confusions(Report(labels=("A",), confusion=((1, 5), (2, 2)))) == ()
