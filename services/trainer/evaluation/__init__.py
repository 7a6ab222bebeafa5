"""Evaluate a trained model out of sample, and compare it with current on texts that neither was trained on.

Current is read when the candidate is ready, because another version may have been promoted meanwhile.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import structlog

from services.core.domain import Estimate, GateDecision, Manifest, Method, OutOfSample, RunRequest, Served
from services.core.errors import EngineError, StoreError
from services.core.registry import Registry
from services.engine.compute import softmax
from services.engine.model import load_model
from services.trainer.data import RunInputs
from services.trainer.data.dataset import Dataset
from services.trainer.data.features import Features, Floats
from services.trainer.data.split import split_key
from services.trainer.evaluation.gate import Pairs, decide, decide_first, pair_up, replace_other_control
from services.trainer.evaluation.metrics import estimate, fit_temperature, near_duplicates
from services.trainer.methods import TrainedModel

log = structlog.get_logger()
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained model with its evaluation."""

    trained: TrainedModel
    temperature: float
    probabilities: Floats
    """(evaluated, labels), calibrated, of the texts in `trained.out_of_sample.rows`."""
    estimate: Estimate
    answers: OutOfSample


def evaluate(trained: TrainedModel, dataset: Dataset, features: Features) -> Candidate:
    """Calibrate on out-of-sample logits, then estimate the accuracy of the calibrated probabilities."""
    found = trained.out_of_sample
    targets = dataset.targets[found.rows]
    # A label without an example in training cannot be answered; the served model was trained on every label.
    temperature = fit_temperature(found.logits[found.learnable], targets[found.learnable])
    probabilities = softmax(found.logits, temperature)
    near = near_duplicates(features.X, found.folds)[found.rows]
    answers = OutOfSample(
        labels=dataset.labels,
        source=found.source,
        answers={
            dataset.keys[row]: tuple(np.round(given.astype(float), _DIGITS).tolist())
            for row, given in zip(found.rows, probabilities, strict=True)
        },
        trained_keys=tuple(key for key, used in zip(dataset.keys, trained.trained, strict=True) if used),
    )
    return Candidate(
        trained, temperature, probabilities, estimate(probabilities, targets, found.source, near), answers
    )


def current_for(
    registry: Registry, project_key: str, served: Served, made: Manifest | None
) -> Manifest | None:
    """Return the version to compare with: `made`, which this run has just published, if it will be served, else current.

    None if nothing is served, or its manifest cannot be read.
    """
    if made is not None and made.gate.promote and not served.pinned:
        return made
    if served.current is None:
        return None
    try:
        return registry.manifest(project_key, served.current)
    except StoreError as error:
        log.warning("current_not_read", version=served.current, error=str(error))
        return None


def compare(
    candidate: Candidate,
    current: Manifest | None,
    registry: Registry,
    inputs: RunInputs,
    *,
    requested: bool = False,
) -> tuple[GateDecision, Pairs | None]:
    """Return the gate's decision, and the texts that it compared if there was a version to compare with.

    A current version that cannot be read or loaded counts as none. `requested`: a person requested this version.
    """
    truth = {example.key: example.label for example in inputs.dataset.examples}
    first = decide_first(candidate.answers, truth, requested=requested)
    if current is None:
        return first, None
    if current.from_name not in {"", inputs.space.from_name}:
        return replace_other_control(first, current.version), None
    try:
        answers = with_text_keys(registry.out_of_sample(current.project_key, current.version), inputs.dataset)
        fresh = _answers_now(current, answers, candidate, registry, inputs.dataset)
    except (StoreError, EngineError) as error:
        log.warning("current_not_evaluated", version=current.version, error=str(error))
        return first, None
    pairs = pair_up(candidate.answers, answers, truth, fresh)
    decision = decide(
        pairs,
        same_method=current.method is candidate.trained.method,
        labels_removed=tuple(label for label in current.labels if label not in inputs.space.labels),
        compared_with=current.version,
        requested=requested,
    )
    return decision, pairs


def is_requested_by_person(request: RunRequest) -> bool:
    """Return whether a person requested the version: they gave parameters, and `auto` does not choose the method."""
    return bool(request.asked) and request.parameters.method is not Method.AUTO


def with_text_keys(answers: OutOfSample, dataset: Dataset) -> OutOfSample:
    """Add text keys to the answers of a version of release 0.1.0, which has split keys alone.

    If several texts share a split key, which of them it had answered is not known: they count as trained on.
    """
    counts = Counter(keys := [split_key(text) for text in dataset.texts])
    trained_before = set(answers.trained_keys)
    found, trained = dict(answers.answers), list(answers.trained_keys)
    for text, key in zip(dataset.keys, keys, strict=True):
        if key in trained_before or (counts[key] > 1 and key in answers.answers):
            trained.append(text)
        if counts[key] == 1 and key in answers.answers:
            found[text] = answers.answers[key]
    return replace(answers, answers=found, trained_keys=tuple(trained))


def _answers_now(
    current: Manifest, answers: OutOfSample, candidate: Candidate, registry: Registry, dataset: Dataset
) -> dict[str, tuple[float, ...]]:
    """Compute current's answers for those of the candidate's texts that it was neither trained nor evaluated on."""
    import torch

    known = answers.answers.keys() | set(answers.trained_keys)
    wanted = candidate.answers.answers.keys() - known
    unseen = [example for example in dataset.examples if example.key in wanted]
    if not unseen:
        return {}
    folder = registry.folder(current.project_key, current.version)
    model = load_model(folder, current.artefact, current.labels, 1, torch.get_num_threads())
    try:
        probabilities = model.scores(model.logits_of([example.text for example in unseen])).probabilities
    finally:
        model.close()
    return {
        example.key: tuple(given.astype(float).tolist())
        for example, given in zip(unseen, probabilities, strict=True)
    }
