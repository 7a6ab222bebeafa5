"""A judged model to a version in the registry: model files, int8, equality check, report, manifest last.

What is written first goes into a temporary folder and is read back, loaded and compared there; the store sees only what
passed. A store that fails for a while is tried again; one that is full is not.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import stamina
from tokenizers import Tokenizer

from services.core import documents
from services.core.domain import Artefact, GateDecision, Lineage, Manifest, Snapshot, Truncation
from services.core.errors import EngineError, NotFound, StoreError
from services.core.labels.uncounted import truncation_sentence as truncation_in_words
from services.core.registry import Registry
from services.engine.model import load_model
from services.engine.tokenise import encode, position_limit, truncation_length, untruncated_lengths
from services.trainer.data.base_model import BaseModel
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation import Candidate
from services.trainer.evaluation.gate import Pairs
from services.trainer.evaluation.report import build_report, changed_texts
from services.trainer.methods.context import TrainedModel, Written
from services.trainer.process import RunInputs
from services.trainer.process.lifecycle import Stop
from services.trainer.publishing.export import attach_int8

_ANY: Final = sys.maxsize


def truncation_of(base: BaseModel, texts: Sequence[str]) -> Truncation:
    """Of the texts as the base model reads them."""
    limit = position_limit(base.config.to_dict(), _ANY)
    return measure(base.tokenizer, texts, 0 if limit == _ANY else limit)


def measure(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> Truncation:
    """Of the texts with a prepared tokenizer; `most`: tokens that the model can read, 0 for any number."""
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


_RETRY_SECONDS = 600.0

_CHECKED_TEXTS = 32

_FOR_GOOD = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
)
"""What waiting does not mend."""


def export(folder: Path, origin: RunInputs, candidate: Candidate) -> Artefact:
    """Write the model into `folder`, with its int8 engine where that is equal. Raises EngineError, StoreError."""
    fitted, texts = candidate.fitted, origin.dataset.texts
    try:
        written = fitted.write(folder, candidate.temperature)
        engine, reason = attach_int8(
            folder, fitted.layout, origin.base.max_length, written.temperature, texts, logits=written.logits
        )
    except OSError as error:
        raise StoreError(
            f"The new version cannot be written to {folder}: {error.strerror or error}."
        ) from error
    base = origin.base
    artefact = Artefact(fitted.layout, engine, reason, base.max_length, written.temperature, base.padded)
    _check(folder, artefact, origin.dataset, written)
    return artefact


def manifest_of(
    version: str,
    origin: RunInputs,
    candidate: Candidate,
    artefact: Artefact,
    decision: GateDecision,
    now: float,
) -> Manifest:
    """The manifest of a version that is about to be published."""
    truncation = truncation_of(origin.base, origin.dataset.texts)
    return Manifest(
        version=version,
        project_key=origin.project.key,
        method=candidate.fitted.method,
        labels=origin.dataset.labels,
        artefact=artefact,
        estimate=candidate.estimate,
        gate=_with_truncation(decision, truncation),
        lineage=_lineage(origin, candidate.fitted, decision.compared_with),
        created_at=now,
        from_name=origin.space.from_name,
        truncation=truncation,
    )


def _with_truncation(decision: GateDecision, found: Truncation) -> GateDecision:
    """A version that is held may lack what stands behind the cut: the reason says so where most texts were cut."""
    if decision.promote or 2 * found.cut < found.texts:
        return decision
    return replace(decision, reasons=(*decision.reasons, truncation_in_words(found)))


def publish(
    registry: Registry,
    folder: Path,
    manifest: Manifest,
    origin: RunInputs,
    candidate: Candidate,
    stop: Stop,
    pairs: Pairs | None = None,
) -> Manifest:
    """Add oos.json and report.json to `folder` and hand all of it to the registry. Raises StoreError.

    `pairs`: how it compares with the version that the gate's decision names.
    """
    report = _report(origin, candidate, manifest, pairs)
    try:
        (folder / "oos.json").write_bytes(documents.dump(candidate.answers))
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"The new version cannot be written to {folder}: {error.strerror or error}."
        ) from error

    def worth_another_try(error: Exception) -> bool:
        return is_transient(error) and not stop.requested

    for attempt in stamina.retry_context(
        on=worth_another_try, timeout=_RETRY_SECONDS, attempts=None, wait_initial=0.5, wait_max=30.0
    ):
        with attempt:
            return registry.publish(folder, manifest)
    raise AssertionError("stamina ends with the last error")  # pragma: no cover - it raises


def is_transient(error: Exception) -> bool:
    """Whether the store may take it later."""
    if not isinstance(error, StoreError) or isinstance(error, NotFound):
        return False
    cause = error.__cause__
    return error.transient or (isinstance(cause, OSError) and cause.errno not in _FOR_GOOD)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Where a version is put together."""
    return tempfile.TemporaryDirectory(prefix="fitloop-version-", ignore_cleanup_errors=True)


def annotations_hash(snapshot: Snapshot) -> str:
    """Changes with every annotation that a run has read: lower-case hex."""
    signatures = "\n".join(f"{task}:{mark}" for task, mark in sorted(snapshot.tasks.items()))
    return hashlib.sha256(signatures.encode()).hexdigest()


def _check(folder: Path, artefact: Artefact, dataset: Dataset, written: Written) -> None:
    """What will be loaded for serving answers, and an fp32 engine answers as the model in memory did."""
    model = load_model(folder, artefact, dataset.labels, 1, 1)
    try:
        model.smoke_test()
        if artefact.engine == "torch-fp32":
            expected = written.logits[:_CHECKED_TEXTS]
            found = model.logits_of(dataset.texts[:_CHECKED_TEXTS])
            worst = float(np.abs(found - expected).max(initial=0.0))
            if not worst <= 1e-2:
                raise EngineError(
                    f"The written model answers other numbers than the trained one (by {worst:.3g})."
                )
    finally:
        model.close()


def _lineage(origin: RunInputs, fitted: TrainedModel, parent: str | None) -> Lineage:
    examples = origin.dataset.examples
    ids = sorted({id_ for example in examples for id_ in example.annotation_ids})
    return Lineage(
        run=origin.run,
        annotation_ids=tuple(ids),
        annotations_hash=annotations_hash(origin.dataset.snapshot),
        label_config_hash=origin.project.label_config_hash,
        base_model=fitted.parameters.base_model,
        base_digest=origin.base.digest,
        code_version=_code_version(),
        parameters=fitted.parameters,
        parent=parent,
        texts=int(fitted.trained.sum()),
        trained_on_everything=bool(fitted.trained.all()),
        resumed_from=fitted.resumed_from,
    )


def _report(
    origin: RunInputs, candidate: Candidate, manifest: Manifest, pairs: Pairs | None
) -> dict[str, object]:
    answers = candidate.probabilities
    report = build_report(origin.dataset, candidate.rows, answers, candidate.estimate, candidate.temperature)
    return {
        **report,
        "truncation": documents.to_plain(manifest.truncation) if manifest.truncation else None,
        "truncation_in_words": truncation_in_words(manifest.truncation),
        "changed": changed_texts(origin.dataset, manifest.gate.compared_with, pairs),
    }


def _code_version() -> str:
    try:
        return metadata.version("fitloop")
    except metadata.PackageNotFoundError:
        return "unknown"
