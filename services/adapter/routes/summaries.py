"""Projects, their versions and runs as plain values for JSON, and for the command line, which prints some of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from services.adapter.state.board import ProjectView, effective_served
from services.adapter.state.encoder_status import EncoderStatus
from services.core.accuracy import cross_validated, errors_message, headline, headline_sentence, score_message
from services.core.documents import to_plain
from services.core.domain import EstimateScore, Manifest, RunStatus, Served
from services.core.labels.uncounted import truncation_message as truncation_in_words
from services.core.labels.uncounted import uncounted_message
from services.core.learning_curve import outlook_message

MAX_LOG_LINES: Final = 200
"""Lines shown of a run's log."""


def project_summary(view: ProjectView, now: float, rejected: Sequence[str] = ()) -> dict[str, Any]:
    """Return a project's state now; `rejected` are problems of the extra_params given to /setup."""
    found: dict[str, Any] = to_plain(replace(view, served=effective_served(view.served, now)))
    project = found.pop("project")
    del project["format"]
    return {
        **project,
        **found,
        "problem": " ".join(filter(None, (view.problem, *rejected))),
        "not_counted_in_words": uncounted_message(view.not_counted, view.space.control if view.space else ""),
        "forecast_in_words": outlook_message(view.figures.current.outlook if view.figures.current else None),
        "estimates_in_words": errors_message(view.figures.estimates),
    }


def version_summary(
    manifest: Manifest,
    served: Served,
    encoder: EncoderStatus | None = None,
    score: EstimateScore | None = None,
) -> dict[str, Any]:
    """Return a version with its accuracy, gate decision and role; `served` is in effect now.

    `encoder`: what is known of its encoder; None for a whole model, and before the leader has listed the encoders. `score`: how
    its expected accuracy compares with later annotations; None before there are enough.
    """
    is_served = manifest.version == served.current
    return {
        "version": manifest.version,
        "method": manifest.method.value,
        "created_at": manifest.created_at,
        "labels": list(manifest.labels),
        "texts": manifest.lineage.texts,
        "run": manifest.lineage.run,
        "base_model": manifest.own_model.model if manifest.own_model else manifest.lineage.base_model,
        "own_model": to_plain(manifest.own_model) if manifest.own_model else None,
        "encoder": manifest.encoder,
        "encoder_problem": encoder.problem if encoder else "",
        "engine": engine_of(manifest, encoder),
        "engine_reason": encoder.engine_reason if encoder else manifest.artefact.engine_reason,
        "estimate": to_plain(manifest.estimate),
        "expected": to_plain(manifest.expected) if manifest.expected else None,
        "right": headline(manifest.expected, manifest.estimate),
        "accuracy_in_words": headline_sentence(manifest),
        "cross_validated": cross_validated(manifest.estimate),
        "scored": to_plain(score) if score else None,
        "scored_in_words": score_message(score),
        "gate": to_plain(manifest.gate),
        "reasons": list(manifest.gate.reasons),
        "truncation_in_words": truncation_in_words(manifest.truncation),
        "served": is_served,
        "previous": manifest.version == served.previous,
        "pinned": is_served and served.pinned,
        "why": served.why if is_served else "",
    }


def engine_of(manifest: Manifest, encoder: EncoderStatus | None) -> str:
    """Return what computes the version: its encoder's engine, if it is a head."""
    return (encoder.engine if encoder else "") or manifest.artefact.engine


def run_summary(status: RunStatus, log: str, waiting: str = "") -> dict[str, Any]:
    """Return a run with its status, why it waits, and the end of its log."""
    return {**to_plain(status), "waiting": waiting, "log": log.splitlines()[-MAX_LOG_LINES:]}
