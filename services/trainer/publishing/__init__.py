"""An evaluated model to a version in the registry: its head or whole model, reports, manifest last.

Everything is written to a temporary folder first, and read back, loaded and compared there; the store gets only what passed.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import structlog

from services.core import documents
from services.core.domain import (
    ExpectedAccuracy,
    GateDecision,
    Lineage,
    Manifest,
    OutOfSample,
    Truncation,
)
from services.core.encoders import Encoders
from services.core.errors import StoreError
from services.core.labels.uncounted import truncation_message as truncation_in_words
from services.core.learning_curve import with_curve
from services.core.registry import Registry
from services.trainer.data import RunInputs
from services.trainer.data.base_encoder import BaseEncoder, load_encoder
from services.trainer.data.features import Features
from services.trainer.evaluation import Candidate
from services.trainer.evaluation.gate import Pairs
from services.trainer.evaluation.label_checks import LabelChecks, LabelChecksFile, list_unconfirmed
from services.trainer.evaluation.near_duplicates import list_near_duplicates
from services.trainer.evaluation.report import build_report, changed_texts, report_bytes
from services.trainer.methods import TrainedModel
from services.trainer.process import Run
from services.trainer.publishing.made import MadeVersion
from services.trainer.publishing.truncation import (
    TextLengths,
    lengths_of,
    list_cut_texts,
    summarise_truncation,
)
from services.trainer.publishing.version import write_version

log = structlog.get_logger()


def publish(
    run: Run,
    version: str,
    inputs: RunInputs,
    candidate: Candidate,
    decision: GateDecision,
    pairs: Pairs | None,
    features: Features,
    current: Manifest | None = None,
) -> Manifest:
    """Write the version to a temporary folder and publish it with its reports. Raises EngineError, StoreError, Preempted.

    `pairs` is the comparison with the version that the gate decision names; `current` is the one whose learning curve goes on.
    """
    file = LabelChecksFile(run.registry.store, inputs.project.key)
    known = file.read()
    with tempfile.TemporaryDirectory(prefix="fitloop-version-", ignore_cleanup_errors=True) as path:
        folder = Path(path)
        made = _export(run, folder, inputs, candidate, features)
        run.progress.stage("publishing")
        lengths = lengths_of(inputs.encoder, inputs.dataset.texts)
        truncation = summarise_truncation(lengths, inputs.encoder.most)
        manifest = with_curve(_manifest(run, version, inputs, candidate, made, decision, truncation), current)
        suspects, checks = list_unconfirmed(known or LabelChecks(), inputs.dataset, candidate)
        report = _report(inputs, candidate, manifest, pairs, lengths)
        report["suspects"] = documents.to_plain(suspects)
        _write_documents(folder, candidate.answers, report)
        manifest = run.registry.publish(folder, manifest)
    if known is not None:
        file.write(checks)
    _log_published(manifest)
    return manifest


def _export(
    run: Run, folder: Path, inputs: RunInputs, candidate: Candidate, features: Features
) -> MadeVersion:
    """Write what is served of the version, and its answers for the pool. Raises EngineError, StoreError, Preempted."""
    run.progress.stage("exporting")
    with run.stop.interruptible():
        made = write_version(folder, run.registry, inputs, candidate, features)
    if inputs.pool and made.encoder:
        run.progress.stage("predicting")
        encoder = partial(_serving_encoder, run.registry, inputs.encoder, made.encoder)
        inputs.pool.predict(folder, encoder, is_base=made.encoder == inputs.encoder.digest)
    return made


def _write_documents(folder: Path, answers: OutOfSample, report: dict[str, object]) -> None:
    try:
        (folder / "oos.json").write_bytes(documents.dump(answers))
        (folder / "report.json").write_bytes(report_bytes(report))
    except OSError as error:
        raise StoreError(
            f"The new version cannot be written to {folder}: {error.strerror or error}."
        ) from error


def _log_published(manifest: Manifest) -> None:
    log.info(
        "version_published",
        version=manifest.version,
        promote=manifest.gate.promote,
        reason=" ".join(manifest.gate.reasons),
        encoder=manifest.encoder[:12],
    )


def _serving_encoder(registry: Registry, base: BaseEncoder, digest: str) -> BaseEncoder:
    """Return the base model's encoder if it is the one that serves, else load the trained one as it will be served."""
    if digest == base.digest:
        return base
    return load_encoder(registry, Encoders(registry.store).manifest(digest))


def _manifest(
    run: Run,
    version: str,
    inputs: RunInputs,
    candidate: Candidate,
    made: MadeVersion,
    decision: GateDecision,
    truncation: Truncation,
) -> Manifest:
    return Manifest(
        version=version,
        project_key=inputs.project.key,
        method=candidate.trained.method,
        labels=inputs.dataset.labels,
        artefact=made.artefact,
        encoder=made.encoder,
        estimate=candidate.estimate,
        expected=_expected(candidate),
        gate=_with_truncation(decision, truncation),
        lineage=_lineage(run, inputs, candidate.trained, decision.compared_with),
        created_at=time.time(),
        from_name=inputs.space.from_name,
        truncation=truncation,
        multi_label=inputs.dataset.multiple,
    )


def _expected(candidate: Candidate) -> ExpectedAccuracy | None:
    """Return the accuracy to expect; None for a fine-tuned model that had no unlabelled text to answer: the cross-validated one is shown."""
    trained = candidate.trained
    return None if trained.unseen is None and trained.model is not None else candidate.expected


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
        base_digest=inputs.encoder.digest,
        code_version=code_version(),
        parameters=trained.parameters,
        parent=parent,
        texts=int(trained.trained.sum()),
        trained_on_everything=bool(trained.trained.all()),
        resumed_from=trained.resumed_from,
        precision=trained.precision,
        layers=trained.layers,
    )


def _report(
    inputs: RunInputs, candidate: Candidate, manifest: Manifest, pairs: Pairs | None, lengths: TextLengths
) -> dict[str, object]:
    rows = candidate.trained.out_of_sample.rows
    report = build_report(
        inputs.dataset,
        rows,
        candidate.probabilities,
        candidate.estimate,
        candidate.temperature,
        candidate.trained.thresholds,
    )
    return {
        **report,
        "truncation": documents.to_plain(manifest.truncation) if manifest.truncation else None,
        "truncation_in_words": truncation_in_words(manifest.truncation),
        "cut": documents.to_plain(list_cut_texts(inputs.dataset, candidate, lengths)),
        "near_duplicates": documents.to_plain(list_near_duplicates(inputs.dataset, candidate.neighbours)),
        "changed": changed_texts(inputs.dataset, manifest.gate.compared_with, pairs),
    }


def code_version() -> str:
    """Return the release of this code."""
    try:
        return metadata.version("fitloop")
    except metadata.PackageNotFoundError:
        return "unknown"
