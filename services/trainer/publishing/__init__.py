"""An evaluated model to a version in the registry: model files, int8, equality check, report, manifest last.

Everything is written to a temporary folder first, and read back, loaded and compared there; the store gets only what passed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

import structlog
from tokenizers import Tokenizer

from services.core import documents
from services.core.domain import (
    Artefact,
    GateDecision,
    Lineage,
    Manifest,
    Truncation,
)
from services.core.errors import StoreError
from services.core.labels.uncounted import truncation_message as truncation_in_words
from services.engine.tokenise import encode, position_limit, truncation_length, untruncated_lengths
from services.trainer.data import RunInputs
from services.trainer.data.base_model import BaseModel
from services.trainer.evaluation import Candidate
from services.trainer.evaluation.gate import Pairs
from services.trainer.evaluation.report import build_report, changed_texts
from services.trainer.methods import TrainedModel
from services.trainer.process import Run
from services.trainer.publishing.export import export_model

_ANY: Final = sys.maxsize
log = structlog.get_logger()


def publish(
    run: Run,
    version: str,
    inputs: RunInputs,
    candidate: Candidate,
    decision: GateDecision,
    pairs: Pairs | None,
) -> Manifest:
    """Export the model to a temporary folder and publish it with its reports. Raises EngineError, StoreError, Preempted.

    `pairs` is the comparison with the version that the gate decision names.
    """
    with tempfile.TemporaryDirectory(prefix="fitloop-version-", ignore_cleanup_errors=True) as path:
        folder = Path(path)
        run.progress.stage("exporting")
        with run.stop.interruptible():
            artefact = export_model(folder, inputs, candidate.trained, candidate.temperature)
        run.progress.stage("publishing")
        manifest = _manifest(run, version, inputs, candidate, artefact, decision)
        report = _report(inputs, candidate, manifest, pairs)
        try:
            (folder / "oos.json").write_bytes(documents.dump(candidate.answers))
            (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"The new version cannot be written to {folder}: {error.strerror or error}."
            ) from error
        manifest = run.registry.publish(folder, manifest)
    reason = " ".join(decision.reasons)
    log.info(
        "version_published", version=version, promote=decision.promote, reason=reason, engine=artefact.engine
    )
    return manifest


def truncation_of(base: BaseModel, texts: Sequence[str]) -> Truncation:
    """Count the texts that the base model truncates, and what reading more of them would cost."""
    limit = position_limit(base.config.to_dict(), _ANY)
    return measure_truncation(base.tokenizer, texts, 0 if limit == _ANY else limit)


def measure_truncation(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> Truncation:
    """Count the texts that a prepared tokenizer truncates; `most`: tokens that the model can read, 0 for any number."""
    length = truncation_length(tokenizer)
    read = [len(ids) for ids in encode(tokenizer, texts)]
    full = [row for row, tokens in enumerate(read) if tokens >= length]
    whole = dict(zip(full, untruncated_lengths(tokenizer, [texts[row] for row in full]), strict=True))
    cut = [tokens for tokens in whole.values() if tokens > length]
    readable = [min(whole.get(row, tokens), most or _ANY) for row, tokens in enumerate(read)]
    return Truncation(
        texts=len(texts),
        cut=len(cut),
        longest=max(cut, default=max(read, default=0)),
        max_length=length,
        most=most,
        cost=round(sum(readable) / max(1, sum(read)), 2),
    )


def _manifest(
    run: Run,
    version: str,
    inputs: RunInputs,
    candidate: Candidate,
    artefact: Artefact,
    decision: GateDecision,
) -> Manifest:
    truncation = truncation_of(inputs.base, inputs.dataset.texts)
    return Manifest(
        version=version,
        project_key=inputs.project.key,
        method=candidate.trained.method,
        labels=inputs.dataset.labels,
        artefact=artefact,
        estimate=candidate.estimate,
        gate=_with_truncation(decision, truncation),
        lineage=_lineage(run, inputs, candidate.trained, decision.compared_with),
        created_at=time.time(),
        from_name=inputs.space.from_name,
        truncation=truncation,
    )


def _with_truncation(decision: GateDecision, found: Truncation) -> GateDecision:
    """Add to the reasons of a held version that most texts were truncated: the cut part may be what it lacks."""
    if decision.promote or 2 * found.cut < found.texts:
        return decision
    return replace(decision, reasons=(*decision.reasons, truncation_in_words(found)))


def _lineage(run: Run, inputs: RunInputs, trained: TrainedModel, parent: str | None) -> Lineage:
    state = inputs.dataset.state
    return Lineage(
        run=run.name,
        annotation_ids=inputs.dataset.annotation_ids,
        annotations_hash=state.digest,
        label_config_hash=state.label_config_hash,
        base_model=trained.parameters.base_model,
        base_digest=inputs.base.digest,
        code_version=_code_version(),
        parameters=trained.parameters,
        parent=parent,
        texts=int(trained.trained.sum()),
        trained_on_everything=bool(trained.trained.all()),
        resumed_from=trained.resumed_from,
    )


def _report(
    inputs: RunInputs, candidate: Candidate, manifest: Manifest, pairs: Pairs | None
) -> dict[str, object]:
    rows = candidate.trained.out_of_sample.rows
    report = build_report(
        inputs.dataset, rows, candidate.probabilities, candidate.estimate, candidate.temperature
    )
    return {
        **report,
        "truncation": documents.to_plain(manifest.truncation) if manifest.truncation else None,
        "truncation_in_words": truncation_in_words(manifest.truncation),
        "changed": changed_texts(inputs.dataset, manifest.gate.compared_with, pairs),
    }


def _code_version() -> str:
    try:
        return metadata.version("fitloop")
    except metadata.PackageNotFoundError:
        return "unknown"
