"""Projects, versions and runs as the API and the page show them: plain dicts, figures in words beside the figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from services.adapter.state.board import ProjectView, effective_served
from services.core.documents import to_plain
from services.core.domain import Estimate, Manifest, RunStatus, Served
from services.core.labels.uncounted import truncation_sentence as truncation_in_words
from services.core.labels.uncounted import uncounted_sentence

LOG_LINES: Final = 200
"""Lines of a run's log that are shown."""
_FEW: Final = 20


def project_summary(view: ProjectView, now: float, refused: Sequence[str] = ()) -> dict[str, Any]:
    """A project's state as it is told now; `refused` says what of /setup's extra_params was not taken."""
    found: dict[str, Any] = to_plain(replace(view, served=effective_served(view.served, now)))
    project = found.pop("project")
    del project["format"]
    return {
        **project,
        **found,
        "problem": " ".join(filter(None, (view.problem, *refused))),
        "not_counted_in_words": uncounted_sentence(
            view.not_counted, view.space.from_name if view.space else ""
        ),
    }


def version_summary(manifest: Manifest, served: Served) -> dict[str, Any]:
    """A version, how good it is, what the gate said, and whether it serves; `served` as it is told now."""
    is_served = manifest.version == served.current
    return {
        "version": manifest.version,
        "method": manifest.method.value,
        "created_at": manifest.created_at,
        "labels": list(manifest.labels),
        "texts": manifest.lineage.texts,
        "run": manifest.lineage.run,
        "base_model": manifest.lineage.base_model,
        "engine": manifest.artefact.engine,
        "estimate": to_plain(manifest.estimate),
        "right": right(manifest.estimate),
        "gate": to_plain(manifest.gate),
        "reasons": list(manifest.gate.reasons),
        "truncation_in_words": truncation_in_words(manifest.truncation),
        "served": is_served,
        "previous": manifest.version == served.previous,
        "pinned": is_served and served.pinned,
        "why": served.why if is_served else "",
    }


def run_summary(status: RunStatus, log: str, waiting: str = "") -> dict[str, Any]:
    """A run, what it last said, why no process works on it yet, and the end of its log."""
    return {**to_plain(status), "waiting": waiting, "log": log.splitlines()[-LOG_LINES:]}


def right(estimate: Estimate) -> str:
    """How often a version is right: "16 of 34 (47 %, likely 33 to 61 %), an estimate, usually low"."""
    if estimate.judged < _FEW:
        return f"{estimate.right} of {estimate.judged}: too few labels to say"
    percent = 100 * estimate.right / estimate.judged
    interval = f"likely {100 * estimate.low:.0f} to {100 * estimate.high:.0f} %"
    return f"{estimate.right} of {estimate.judged} ({percent:.0f} %, {interval}), an estimate, usually low"
