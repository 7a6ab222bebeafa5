"""What the pages show, from the board, the versions and their reports. Blocking: call in a thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.adapter.pages.curve import LearningCurve, build_learning_curve
from services.adapter.pages.report_view import ReportView, build_report_view
from services.adapter.routes.api import Api
from services.adapter.routes.reports import find_version
from services.adapter.routes.summaries import MAX_LOG_LINES, engine_of
from services.adapter.state.board import ProjectView, effective_served
from services.adapter.state.documents import VersionOutcome
from services.adapter.state.encoder_status import EncoderStatus
from services.core.domain import EstimateScore, Manifest, Report, RunStatus, Served
from services.core.errors import StoreError
from services.core.runs import FINAL

MAX_ROWS: Final = 25
"""Versions in a project's table, unless all are requested."""


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """A project on the index page."""

    view: ProjectView
    served: Served
    problem: str
    current: Manifest | None = None
    """Manifest of the served version, if known."""


@dataclass(frozen=True, slots=True)
class EvaluatedVersion:
    """A version with its report."""

    manifest: Manifest
    view: ReportView | None
    problem: str = ""
    """Why the report is missing."""
    score: EstimateScore | None = None
    """How its expected accuracy compares with later annotations, on its own page; None before there are enough."""

    @property
    def report(self) -> Report | None:
        """The report, if it could be read."""
        return self.view.report if self.view else None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version in a project's table or on its own page."""

    manifest: Manifest
    outcome: VersionOutcome | None
    role: str
    """`current`, `previous`, `target`, or ``"""
    encoder: EncoderStatus | None = None
    """None for a whole model, and before the leader has listed the encoders."""

    @property
    def engine(self) -> str:
        """What computes the version."""
        return engine_of(self.manifest, self.encoder)


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """A project's page."""

    card: ProjectCard
    rows: tuple[VersionRow, ...]
    versions: int
    curve: LearningCurve | None
    evaluated: EvaluatedVersion | None
    run: RunStatus | None
    log: tuple[str, ...]
    problem: str = ""
    """Why some of it is missing."""
    checked: EvaluatedVersion | None = None
    """The newest version with a report: it knows what people have confirmed, whatever is served."""


@dataclass(frozen=True, slots=True)
class PageData:
    """Reads what the pages show, through the API's readers."""

    api: Api

    def cards(self) -> list[ProjectCard]:
        """Return all projects: those with a problem first, then those with an active run, then by id. Raises NotReady."""
        self.api.check_ready()
        cards = [self._with_current(self.card(view)) for view in self.api.board.views.values()]
        return sorted(
            cards, key=lambda card: (not card.problem, card.view.active is None, card.view.project.id)
        )

    def card(self, view: ProjectView) -> ProjectCard:
        """Return one project, from memory."""
        summary = self.api.summary(view)
        return ProjectCard(view, effective_served(view.served, time.time()), summary["problem"])

    def encoders(self) -> tuple[EncoderStatus, ...]:
        """Return all encoders; none while the store does not answer."""
        try:
            return self.api.encoder_reader.read()
        except StoreError:
            return ()

    def project(self, view: ProjectView, *, all_rows: bool) -> ProjectPage:
        """Return a project's page; if the store fails, with what is known without it."""
        card, run = self._with_current(self.card(view)), view.active or view.last
        try:
            found = self.api.versions.manifests(view.project.key)
            log = self.api.runs.log(run.run) if run else ""
            rows = tuple(self._row(one, card.served) for one in (found if all_rows else found[:MAX_ROWS]))
            judged = self._evaluated(_served_or_newest(found, card.served))
            checked = self._newest_with_report(found)
        except StoreError as error:
            return ProjectPage(card, (), 0, None, None, run, (), str(error))
        curve = build_learning_curve(found[::-1], card.served.current)
        return ProjectPage(card, rows, len(found), curve, judged, run, _log_tail(log), checked=checked)

    def version(self, view: ProjectView, name: str) -> tuple[ProjectCard, VersionRow, EvaluatedVersion]:
        """Return a version's page. Raises Unknown, StoreError."""
        manifest = find_version(self.api.versions.manifests(view.project.key), view, name)
        card = self.card(view)
        judged = self._evaluated(manifest)
        assert judged is not None  # noqa: S101  # there is a manifest
        score = self.api.versions.estimate_scores(view.project.key).get(name)
        return card, self._row(manifest, card.served), replace(judged, score=score)

    def _with_current(self, card: ProjectCard) -> ProjectCard:
        if card.served.current is None:
            return card
        try:
            current = self.api.versions.manifest(card.view.project.key, card.served.current)
        except StoreError:
            return card  # the card says what is known without it
        return ProjectCard(card.view, card.served, card.problem, current)

    def _row(self, manifest: Manifest, served: Served) -> VersionRow:
        verdict = self.api.versions.outcome(manifest.project_key, manifest.version)
        roles = {served.target: "target", served.previous: "previous", served.current: "current"}
        encoder = self.api.encoder_of(manifest)
        return VersionRow(manifest, verdict, roles.get(manifest.version, ""), encoder)

    def _newest_with_report(self, found: Sequence[Manifest]) -> EvaluatedVersion | None:
        judged = (self._evaluated(manifest) for manifest in found[:MAX_ROWS] if manifest.is_evaluated)
        return next((one for one in judged if one and one.view), None)

    def _evaluated(self, manifest: Manifest | None) -> EvaluatedVersion | None:
        if manifest is None:
            return None
        try:
            report = self.api.versions.report(manifest.project_key, manifest.version)
        except StoreError as error:
            return EvaluatedVersion(manifest, None, str(error))
        return EvaluatedVersion(manifest, build_report_view(report, manifest.estimate))


def is_finished(run: RunStatus | None) -> bool:
    """Whether no run is active."""
    return run is None or run.state in FINAL


def _served_or_newest(found: Sequence[Manifest], served: Served) -> Manifest | None:
    current = next((manifest for manifest in found if manifest.version == served.current), None)
    return current or next(iter(found), None)


def _log_tail(log: str) -> tuple[str, ...]:
    return tuple(log.splitlines()[-MAX_LOG_LINES:])
