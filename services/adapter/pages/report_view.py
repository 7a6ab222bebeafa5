"""A version's report as the pages show it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.adapter.pages.confusion_matrix import ConfusionMatrix, build_confusion_matrix
from services.adapter.pages.reliability import ReliabilityDiagram, build_reliability_diagram
from services.core.confusions import ConfusedPair, largest_confusions
from services.core.domain import Estimate, LabelMetrics, Report
from services.core.report_messages import cut_message, disagreement_message, near_duplicates_message
from services.core.suspects import SuspectRow, suspect_rows, suspects_message

MANY_LABELS: Final = 20
"""Labels above which the weakest are shown first and the others on demand."""
WEAKEST: Final = 10


@dataclass(frozen=True, slots=True)
class ReportView:
    """What the templates show of a report; a report of an earlier release has less."""

    report: Report
    pairs: tuple[ConfusedPair, ...]
    matrix: ConfusionMatrix | None
    diagram: ReliabilityDiagram | None
    weakest: tuple[LabelMetrics, ...]
    """Of many labels those with the lowest F1; () of few, and while none has enough texts."""
    cut: str
    near_duplicates: str
    annotators: str
    suspects: str
    """What is said about truncated texts, near-duplicates, annotators and suspect labels; "" if nothing is known."""
    suspect_rows: tuple[SuspectRow, ...] = ()

    @property
    def has_many_labels(self) -> bool:
        """Whether all labels are shown only on demand."""
        return len(self.report.per_label) > MANY_LABELS

    @property
    def third_opinions(self) -> int:
        """Tasks without a majority for one label."""
        return max(self.report.third_opinions, len(self.report.third_opinion))


def build_report_view(report: Report, estimate: Estimate) -> ReportView:
    """Return what is shown of a report."""
    pairs = largest_confusions(report)
    return ReportView(
        report,
        pairs,
        build_confusion_matrix(report, pairs),
        build_reliability_diagram(report),
        weakest_labels(report.per_label),
        cut_message(report.cut, estimate),
        near_duplicates_message(report.near_duplicates, report.texts),
        disagreement_message(report.disagreement),
        suspects_message(report),
        suspect_rows(report),
    )


def weakest_labels(rows: tuple[LabelMetrics, ...]) -> tuple[LabelMetrics, ...]:
    """Return the labels with the lowest F1, of those with enough evaluated texts; () if there are few labels."""
    if len(rows) <= MANY_LABELS:
        return ()
    judged = [row for row in rows if not row.note and row.f1 is not None]
    return tuple(sorted(judged, key=lambda row: (row.f1 or 0.0, -row.judged))[:WEAKEST])
