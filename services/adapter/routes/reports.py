"""/api/projects/<id>/versions/<version>/report: a version's report as JSON, with what the page says about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.adapter.pages.curve import build_learning_curve
from services.adapter.pages.formatting import uncounted_in_report
from services.adapter.routes.api import Api
from services.adapter.routes.bodies import NoSuchResource, json_response, run_store_read
from services.adapter.routes.summaries import version_summary
from services.adapter.state.board import ProjectView, effective_served
from services.core.calibration import calibration_message, calibration_of
from services.core.confusions import largest_confusions
from services.core.documents import to_plain
from services.core.domain import Manifest, Report, Uncounted
from services.core.labels.uncounted import uncounted_phrases
from services.core.report_messages import cut_message, disagreement_message, near_duplicates_message
from services.core.suspects import ADVICE, suspect_rows, suspects_message, suspects_url


@dataclass(frozen=True, slots=True)
class ReportRoutes:
    """The route of reports."""

    api: Api
    label_studio: str
    """Label Studio's address, as browsers reach it."""

    async def report(self, request: Request) -> Response:
        """Return a version's report."""
        view = self.api.view_of(request)
        return json_response(await run_store_read(self._report, view, request.path_params["version"]))

    def _report(self, view: ProjectView, name: str) -> dict[str, Any]:
        versions = self.api.versions.manifests(view.project.key)
        manifest = find_version(versions, view, name)
        report = self.api.versions.report(view.project.key, name)
        served = effective_served(view.served, time.time())
        return {
            "project": view.project.id,
            "title": view.project.title,
            "task_url": f"{self.label_studio.rstrip('/')}/projects/{view.project.id}/data?task=",
            "summary": version_summary(
                manifest,
                served,
                self.api.encoder_of(manifest),
                self.api.versions.estimate_scores(view.project.key).get(name),
            ),
            "curve": _curve(versions, served.current),
            **_findings(report, manifest, view.space.control if view.space else ""),
            "suspects": {
                "in_words": suspects_message(report),
                "advice": ADVICE if suspect_rows(report) else "",
                "url": suspects_url(self.label_studio, view.project.id, report.suspects),
                "rows": [to_plain(row) for row in suspect_rows(report)],
            },
            "report": to_plain(report),
        }


def find_version(versions: Sequence[Manifest], view: ProjectView, name: str) -> Manifest:
    """Return one of the project's versions. Raises NoSuchResource."""
    manifest = next((one for one in versions if one.version == name), None)
    if manifest is None:
        raise NoSuchResource(
            f"Project {view.project.id} has no version {name[:80]!r}: it may have been deleted."
        )
    return manifest


def _curve(versions: Sequence[Manifest], served: str | None) -> list[dict[str, Any]]:
    """Return the versions of the learning curve in words, newest first."""
    curve = build_learning_curve(versions[::-1], served)
    return [to_plain(row) for row in curve.rows] if curve else []


def _findings(report: Report, manifest: Manifest, control: str) -> dict[str, Any]:
    """Return what the report comes to, in pairs of labels and sentences."""
    found = calibration_of(report)
    return {
        "confusions": [to_plain(pair) for pair in largest_confusions(report)],
        "calibration": {**to_plain(found), "in_words": calibration_message(found)} if found else None,
        "cut_in_words": cut_message(report.cut, manifest.estimate),
        "near_duplicates_in_words": near_duplicates_message(report.near_duplicates, report.texts),
        "disagreement_in_words": disagreement_message(report.disagreement),
        "not_counted_in_words": [_left_out(report, row, control) for row in uncounted_in_report(report)],
    }


def _left_out(report: Report, row: Uncounted, control: str) -> str:
    """Return `2 annotations with several labels (tasks 7, 12)`."""
    (phrase,) = uncounted_phrases([row], control)
    tasks = report.not_counted_tasks.get(row.reason, ())
    return (
        f"{phrase} (task{'' if len(tasks) == 1 else 's'} {', '.join(map(str, tasks))})" if tasks else phrase
    )
