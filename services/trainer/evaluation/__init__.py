"""Candidate against current, on texts that neither was trained on, with today's labels.

What is current is read when the candidate is ready, because another version may have been promoted meanwhile.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import structlog

from services.core.domain import Estimate, GateDecision, Manifest, OutOfSample
from services.core.errors import EngineError, StoreError
from services.core.registry import Registry
from services.engine.model import load_model
from services.trainer.data.dataset import Dataset
from services.trainer.data.features import Features, Floats, Rows
from services.trainer.data.split import split_key
from services.trainer.evaluation.gate import Pairs, decide, decide_first, pair_up, replace_other_control
from services.trainer.evaluation.metrics import estimate, fit_temperature, near_duplicates, softmax
from services.trainer.methods.context import TrainedModel
from services.trainer.process import RunInputs

log = structlog.get_logger()
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a fitted model before the gate."""

    fitted: TrainedModel
    temperature: float
    rows: Rows
    """(judged,) which texts have an out-of-sample answer."""
    probabilities: Floats
    """(judged, labels), calibrated."""
    estimate: Estimate
    answers: OutOfSample


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the gate says, and the texts by which it does."""

    decision: GateDecision
    pairs: Pairs | None = None
    """None: there was no version to compare with."""


def evaluate(fitted: TrainedModel, dataset: Dataset, features: Features) -> Candidate:
    """Calibrate on out-of-sample logits, then estimate with what came out."""
    found = fitted.out_of_sample
    targets = dataset.targets[found.rows]
    # A label without an example in training cannot be answered; the model that is served has seen every label.
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
        trained_keys=tuple(key for key, used in zip(dataset.keys, fitted.trained, strict=True) if used),
    )
    judged = estimate(probabilities, targets, found.source, near)
    return Candidate(fitted, temperature, found.rows, probabilities, judged, answers)


def read_current(registry: Registry, project_key: str, version: str | None) -> Manifest | None:
    """The version to compare with, or None where there is none that can be read."""
    if version is None:
        return None
    try:
        return registry.manifest(project_key, version)
    except StoreError as error:
        log.warning("current cannot be read", version=version, error=str(error))
        return None


def compare(
    candidate: Candidate,
    current: Manifest | None,
    registry: Registry,
    origin: RunInputs,
    *,
    asked: bool = False,
) -> Comparison:
    """The gate's decision; a current version that cannot be read or loaded counts as none. `asked`: by a person."""
    truth = {example.key: example.label for example in origin.dataset.examples}
    if current is None:
        return Comparison(decide_first(candidate.answers, truth, asked=asked))
    if current.from_name not in {"", origin.space.from_name}:
        first = decide_first(candidate.answers, truth, asked=asked)
        return Comparison(replace_other_control(first, current.version))
    try:
        answers = with_text_keys(registry.out_of_sample(current.project_key, current.version), origin.dataset)
        fresh = _answers_now(current, answers, candidate, registry, origin.dataset)
    except (StoreError, EngineError) as error:
        log.warning("current cannot be judged", version=current.version, error=str(error))
        return Comparison(decide_first(candidate.answers, truth, asked=asked))
    pairs = pair_up(candidate.answers, answers, truth, fresh)
    decision = decide(
        pairs,
        same_method=current.method is candidate.fitted.method,
        labels_removed=tuple(label for label in current.labels if label not in origin.space.labels),
        compared_with=current.version,
        asked=asked,
    )
    return Comparison(decision, pairs)


def with_text_keys(answers: OutOfSample, dataset: Dataset) -> OutOfSample:
    """Also by text key what a version of release 0.1.0 keeps by side key.

    Where several texts share the side key, which of them it had answered is not known: they count as learnt.
    """
    counts = Counter(sides := [split_key(text) for text in dataset.texts])
    learnt = set(answers.trained_keys)
    found, trained = dict(answers.answers), list(answers.trained_keys)
    for key, side in zip(dataset.keys, sides, strict=True):
        if side in learnt or (counts[side] > 1 and side in answers.answers):
            trained.append(key)
        if counts[side] == 1 and side in answers.answers:
            found[key] = answers.answers[side]
    return replace(answers, answers=found, trained_keys=tuple(trained))


def _answers_now(
    current: Manifest, answers: OutOfSample, candidate: Candidate, registry: Registry, dataset: Dataset
) -> dict[str, tuple[float, ...]]:
    """Current's answers for the candidate's texts that it never saw."""
    known = answers.answers.keys() | set(answers.trained_keys)
    wanted = candidate.answers.answers.keys() - known
    unseen = [example for example in dataset.examples if example.key in wanted]
    if not unseen:
        return {}
    model = load_model(
        registry.folder(current.project_key, current.version), current.artefact, current.labels, 1, _threads()
    )
    try:
        probabilities = model.scores(model.logits_of([example.text for example in unseen])).probabilities
    finally:
        model.close()
    return {
        example.key: tuple(given.astype(float).tolist())
        for example, given in zip(unseen, probabilities, strict=True)
    }


def _threads() -> int:
    import torch

    return torch.get_num_threads()
