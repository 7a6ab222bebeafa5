"""Evaluate a trained model out of sample, and compare it with current on texts that neither was trained on.

Current is read when the candidate is ready, because another version may have been promoted meanwhile.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import structlog

from services.core.domain import (
    Estimate,
    ExpectedAccuracy,
    GateDecision,
    Manifest,
    Method,
    OutOfSample,
    RunRequest,
    Served,
)
from services.core.errors import EngineError, StoreError
from services.core.registry import Registry
from services.core.settings.training import available_cores
from services.engine.head import Head
from services.engine.loading import Loader
from services.engine.model import Model
from services.trainer.data import RunInputs
from services.trainer.data.dataset import Dataset
from services.trainer.data.features import Features, Flags, Floats
from services.trainer.data.split import split_key
from services.trainer.evaluation.expected import expected_accuracy
from services.trainer.evaluation.gate import Pairs, decide, decide_first, pair_up, replace_incomparable
from services.trainer.evaluation.metrics import estimate, fit_temperature
from services.trainer.evaluation.near_duplicates import Neighbours, find_neighbours
from services.trainer.evaluation.set_gate import decide_first_sets, pair_up_sets
from services.trainer.evaluation.set_metrics import estimate_sets, expected_of_sets
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
    expected: ExpectedAccuracy
    answers: OutOfSample
    neighbours: Neighbours
    """Nearly equal texts in different folds."""

    def right(self, dataset: Dataset) -> Flags:
        """Return (evaluated,) which texts are answered right; where one may have several labels, with all of them."""
        rows, thresholds = self.trained.out_of_sample.rows, self.trained.thresholds
        if thresholds is None:
            return np.asarray(self.probabilities.argmax(axis=1) == dataset.targets[rows])
        return np.asarray(((self.probabilities >= thresholds) == dataset.chosen[rows]).all(axis=1))


def evaluate(trained: TrainedModel, dataset: Dataset, features: Features) -> Candidate:
    """Calibrate on out-of-sample logits, then estimate the accuracy of the calibrated probabilities."""
    found = trained.out_of_sample
    temperature = _temperature(trained, dataset)
    head = Head((), temperature, trained.thresholds)
    probabilities = head.calibrated(found.logits)
    neighbours = find_neighbours(_unit(features.X), found.folds)
    near = neighbours.found[found.rows]
    answers = OutOfSample(
        labels=dataset.labels,
        source=found.source,
        answers={
            dataset.keys[row]: tuple(np.round(given.astype(float), _DIGITS).tolist())
            for row, given in zip(found.rows, probabilities, strict=True)
        },
        trained_keys=tuple(key for key, used in zip(dataset.keys, trained.trained, strict=True) if used),
        thresholds=() if trained.thresholds is None else tuple(trained.thresholds.astype(float).tolist()),
    )
    unseen = None if trained.unseen is None else head.calibrated(trained.unseen)
    if trained.thresholds is None:
        cross_validated = estimate(probabilities, dataset.targets[found.rows], found.source, near)
        expected = expected_accuracy(unseen, probabilities, cross_validated, dataset)
    else:
        chosen = probabilities >= trained.thresholds
        cross_validated = estimate_sets(chosen, dataset.chosen[found.rows], found.source, near)
        expected = expected_of_sets(unseen, trained.thresholds, len(dataset.examples))
    return Candidate(
        trained=trained,
        temperature=temperature,
        probabilities=probabilities,
        estimate=cross_validated,
        expected=expected,
        answers=answers,
        neighbours=neighbours,
    )


def _temperature(trained: TrainedModel, dataset: Dataset) -> float:
    """Fit the temperature; where a text may have several labels, the method has calibrated its logits already."""
    if trained.thresholds is not None:
        return 1.0
    found = trained.out_of_sample
    # A label without an example in training cannot be answered; the served model was trained on every label.
    return fit_temperature(found.logits[found.learnable], dataset.targets[found.rows][found.learnable])


def current_for(
    registry: Registry, project_key: str, served: Served, made: Manifest | None
) -> Manifest | None:
    """Return the version to compare with: `made`, which this run has just published, if it will be served, else the target or current.

    The target is that of the run before, if this one follows at once: it will be served when this one is decided on. None if
    nothing is served, or no manifest can be read.
    """
    if made is not None and made.gate.promote and not served.pinned:
        return made
    for version in filter(None, (served.target, served.current)):
        try:
            return registry.manifest(project_key, version)
        except StoreError as error:
            log.warning("current_not_read", version=version, error=str(error))
    return None


def compare(
    candidate: Candidate,
    current: Manifest | None,
    registry: Registry,
    inputs: RunInputs,
    features: Features,
    *,
    requested: bool = False,
) -> tuple[GateDecision, Pairs | None]:
    """Return the gate's decision, and the texts that it compared if there was a version to compare with.

    A current version that cannot be read or loaded counts as none. `requested`: a person requested this version.
    """
    first = _decide_first(candidate, inputs.dataset, requested=requested)
    if current is None:
        return first, None
    if current.from_name not in {"", inputs.space.from_name} or current.multi_label != inputs.space.multiple:
        return replace_incomparable(first, current.version, "was made for another control"), None
    if current.own_model:
        return replace_incomparable(first, current.version, f"is of {current.own_model.model}"), None
    try:
        answers = with_text_keys(registry.out_of_sample(current.project_key, current.version), inputs.dataset)
        fresh = _answers_now(current, answers, candidate, registry, inputs, features)
    except (StoreError, EngineError) as error:
        log.warning("current_not_evaluated", version=current.version, error=str(error))
        return first, None
    pairs = _pair_up(candidate, answers, inputs.dataset, fresh)
    decision = decide(
        pairs,
        same_method=current.method is candidate.trained.method,
        labels_removed=tuple(label for label in current.labels if label not in inputs.space.labels),
        compared_with=current.version,
        requested=requested,
        replaces_names=current.is_from_names,
    )
    return decision, pairs


def _decide_first(candidate: Candidate, dataset: Dataset, *, requested: bool) -> GateDecision:
    if dataset.multiple:
        return decide_first_sets(candidate.answers, dataset.label_sets, requested=requested)
    return decide_first(candidate.answers, _truth(dataset), requested=requested)


def _pair_up(
    candidate: Candidate, answers: OutOfSample, dataset: Dataset, fresh: dict[str, tuple[float, ...]]
) -> Pairs:
    if dataset.multiple:
        return pair_up_sets(candidate.answers, answers, dataset.label_sets, fresh)
    return pair_up(candidate.answers, answers, _truth(dataset), fresh)


def _truth(dataset: Dataset) -> dict[str, str]:
    return {example.key: example.label for example in dataset.examples}


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
    current: Manifest,
    answers: OutOfSample,
    candidate: Candidate,
    registry: Registry,
    inputs: RunInputs,
    features: Features,
) -> dict[str, tuple[float, ...]]:
    """Compute current's answers for those of the candidate's texts that it was neither trained nor evaluated on."""
    known = answers.answers.keys() | set(answers.trained_keys)
    wanted = candidate.answers.answers.keys() - known
    keys = inputs.dataset.keys
    unseen = [row for row, key in enumerate(keys) if key in wanted]
    if not unseen:
        return {}
    if current.encoder == inputs.encoder.digest:  # a head on the same features
        model = Model(current.labels, inputs.encoder.encoder, Loader(registry).head(current))
        probabilities = model.scores(features.X[unseen]).probabilities
    else:
        model = Loader(registry, threads=available_cores()).model(current)
        with closing(model):
            probabilities = model.scores_of([inputs.dataset.texts[row] for row in unseen]).probabilities
    return {
        keys[row]: tuple(given.astype(float).tolist())
        for row, given in zip(unseen, probabilities, strict=True)
    }


def _unit(X: Floats) -> Floats:
    """Return the rows at length 1: not every encoder normalises its features."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.maximum(lengths, np.float32(1e-12)), np.float32)
