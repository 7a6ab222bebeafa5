"""A version of a class of the operator's: the files that `fit` left, each with its sha256, a report and the manifest."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from services.core import documents
from services.core.domain import (
    OWN_MODEL,
    Artefact,
    ExpectedAccuracy,
    Lineage,
    Manifest,
    OwnModel,
    Project,
    Report,
)
from services.mlbackend.folders import PREFIX
from services.trainer.own_model.trial import Verdict
from services.trainer.process import Run
from services.trainer.publishing import code_version

log = structlog.get_logger()
_MOST_METRICS: Final = 20
_MOST_CHARACTERS: Final = 60
_IN_WORDS: Final = 4
"""Metrics that a sentence names."""


@dataclass(frozen=True, slots=True)
class OwnVersion:
    """A version that is being made."""

    run: Run
    project: Project
    folder: Path
    """What is published."""
    name: str

    @property
    def files(self) -> Path:
        """The class's MODEL_DIR."""
        return self.folder / PREFIX

    @property
    def model(self) -> str:
        """`package.module:Class`."""
        return str(self.run.request.parameters.model)

    def copy_to(self, folder: Path) -> None:
        """Copy the class's files."""
        shutil.copytree(self.files, folder, dirs_exist_ok=True)

    def publish(
        self, verdict: Verdict, fitted_from: float, result: Mapping[str, Any], current: Manifest | None
    ) -> Manifest:
        """Publish the files. `result`: what `fit` returned. Raises StoreError."""
        self.run.progress.stage("publishing")
        texts = self.run.request.labels.labelled if self.run.request.labels and fitted_from else 0
        report = documents.to_plain(Report(texts=texts, judged=verdict.estimate.judged))
        (self.folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        own = OwnModel(
            model=self.model,
            fitted_from=fitted_from,
            metrics=numbers(result.get("metrics")),
            tasks=verdict.trial.tasks,
            answered=verdict.trial.answered,
            dropped=dict(verdict.trial.dropped),
            seconds_per_task=verdict.trial.seconds_per_task,
        )
        manifest = self.run.registry.publish(self.folder, self._manifest(verdict, own, texts, current))
        log.info(
            "version_published",
            version=self.name,
            promote=verdict.decision.promote,
            reason=" ".join(verdict.decision.reasons),
            files=len(manifest.files),
        )
        return manifest

    def _manifest(self, verdict: Verdict, own: OwnModel, texts: int, current: Manifest | None) -> Manifest:
        parameters, state = self.run.request.parameters, self.run.request.labels
        artefact = Artefact(
            OWN_MODEL, OWN_MODEL, f"computed by {own.model}", parameters.max_length, 1.0, padded=False
        )
        return Manifest(
            version=self.name,
            project_key=self.project.key,
            method=parameters.method,
            labels=(),
            artefact=artefact,
            estimate=verdict.estimate,
            gate=verdict.decision,
            lineage=Lineage(
                run=self.run.name,
                annotation_ids=(),
                annotations_hash=state.digest if state else "",
                label_config_hash=self.project.label_config_hash,
                base_model="",
                base_digest="",
                code_version=code_version(),
                parameters=parameters,
                parent=current.version if current else None,
                texts=texts,
                trained_on_everything=True,
            ),
            created_at=time.time(),
            expected=None if verdict.estimate.source else ExpectedAccuracy(None, reason=in_words(own)),
            own_model=own,
        )


def numbers(given: object) -> dict[str, float]:
    """Return those of `fit`'s metrics that are numbers with short names, rounded to six digits."""
    if not isinstance(given, Mapping):
        return {}
    found = {
        str(name): float(f"{value:.6g}")
        for name, value in given.items()
        if isinstance(value, int | float) and math.isfinite(value) and len(str(name)) <= _MOST_CHARACTERS
    }
    return dict(list(found.items())[:_MOST_METRICS])


def in_words(own: OwnModel) -> str:
    """Return `not evaluated`, with what `fit` reported about itself."""
    if not own.metrics:
        return "not evaluated"
    shown = ", ".join(f"{name} {value:.4g}" for name, value in list(own.metrics.items())[:_IN_WORDS])
    return f"not evaluated; `fit` reported {shown}"
