"""Accuracy of versions on banking77's test set, and the error of their own estimate.

Runs are the trainer's own, over a Label Studio in memory, and what is judged is the published artefact by the engine that
would serve it. The first version of an `auto` run is the linear probe's, so one run gives both.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import accuracy_score, f1_score

from bench import texts
from bench.fits import fit, material
from bench.labels import new_run
from bench.result import Options, Result, say
from bench.rig import Rig, base
from services.core.domain import Manifest, Method, Parameters
from services.core.registry import Registry
from services.engine.loading import Loader
from services.trainer.methods.plan import Recipe
from services.trainer.training import train

EACH = (4, 16, 64)
EXAMPLE = "bs 8, lr 2e-5, 3 epochs"
_SEED_EACH = (4, 16)
"""Label counts for the example backend's parameters, which are slow: 64 per class only with --full."""


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one version on the test set."""

    accuracy: float
    macro_f1: float
    estimate: float | None
    seconds: float
    """Seconds of the run, up to this version's manifest."""
    method: str
    """Its method."""


def run(options: Options, rig: Rig) -> Result:  # noqa: ARG001 - one signature for all
    pool = texts.banking77(options.data, "train")
    test = texts.banking77(options.data, "test")
    intents = texts.intents(options.data)
    found: dict[tuple[int, str], list[Score]] = {}
    for each in EACH:
        for seed in range(options.seeds):
            some = texts.of_each_label(pool, each, seed)
            for name, score in auto(some, test, intents, seed).items():
                found.setdefault((each, name), []).append(score)
                _tell(each, seed, name, score)
            if each in _SEED_EACH or options.full:
                score = seeds_parameters(some, test, intents, seed)
                found.setdefault((each, EXAMPLE), []).append(score)
                _tell(each, seed, EXAMPLE, score)
    return _result(found, options)


def auto(some: texts.Labelled, test: texts.Labelled, intents: Sequence[str], seed: int) -> dict[str, Score]:
    """Return the probe's version, and the one that `auto` serves in the end."""
    parameters = Parameters(Method.AUTO, str(base()), seed=seed)
    with new_run(some, intents, parameters) as own:
        begun = time.time()
        train(own)
        names = [published.version for published in own.progress.status.published]
        manifests = [own.registry.manifest("1-1", name) for name in names]
        served = next((one for one in reversed(manifests) if one.gate.promote), manifests[0])
        scores = {
            one.version: judge(own.registry, one, test, one.created_at - begun)
            for one in {manifests[0].version: manifests[0], served.version: served}.values()
        }
    return {"linear-probe": scores[manifests[0].version], "auto": scores[served.version]}


def judge(registry: Registry, manifest: Manifest, test: texts.Labelled, seconds: float) -> Score:
    """Evaluate the version as a predictor would load it."""
    model = Loader(registry, threads=torch.get_num_threads()).model(manifest)
    try:
        logits = model.logits_of([text for text, _ in test])
    finally:
        model.close()
    answers = [manifest.labels[number] for number in logits.argmax(axis=1)]
    estimate = manifest.estimate.right / max(1, manifest.estimate.judged)
    return score_of(answers, [label for _, label in test], estimate, seconds, manifest.method.value)


def seeds_parameters(some: texts.Labelled, test: texts.Labelled, intents: Sequence[str], seed: int) -> Score:
    """Train with the parameters of example backends: batches of 8, learning rate 2e-5 for all weights, 3 epochs, the stock [CLS] head."""
    recipe = Recipe(3.0, 2e-5, 2e-5, 0.01, seed, warm_up=0.0, batch_tokens=8 * 512, batch_texts=8)
    seconds, logits = fit(material(some, intents), recipe, [text for text, _ in test])
    answers = [intents[number] for number in logits.argmax(axis=1)]
    return score_of(answers, [label for _, label in test], None, seconds, "finetune")


def score_of(
    answers: Sequence[str], truth: Sequence[str], estimate: float | None, seconds: float, method: str
) -> Score:
    macro = f1_score(truth, answers, average="macro", zero_division=0)
    return Score(float(accuracy_score(truth, answers)), float(macro), estimate, seconds, method)


def _tell(each: int, seed: int, name: str, score: Score) -> None:
    estimate = "" if score.estimate is None else f", estimate {score.estimate:.1%}"
    say(
        f"accuracy: {each} a class, seed {seed}, {name}: {score.accuracy:.1%}{estimate}, {score.seconds:.0f} s"
    )


def _result(found: dict[tuple[int, str], list[Score]], options: Options) -> Result:
    header = (
        "texts per class",
        "method",
        "served",
        "accuracy, %",
        "macro-F1, %",
        "estimate, %",
        "|estimate - truth|, points",
        "seconds",
    )
    rows = [header, *(_row(each, name, scores) for (each, name), scores in found.items())]
    few, more = (f"{_median(found, each, 'auto')} ({_median(found, each, EXAMPLE)})" for each in (4, 16))
    return Result(
        name="accuracy",
        rows=tuple(rows),
        sentence=(
            "Test accuracy of the version that `auto` serves, and in brackets with an example backend's parameters: "
            f"{few} with 4 labels per class, {more} with 16."
        ),
        met=None,
        how=(
            f"banking77, 77 intents, {options.seeds} random draws of the training set (with the same seeds for training), MiniLM, "
            "the whole test set of 3,080 texts, evaluated with the published artefact in the engine that serves it. Medians (min–"
            "max). The estimate is the version's own, out of sample; |estimate - truth| is its mean over the draws. Seconds "
            "are those of the run, without start and imports, up to that version. Parameters of example backends: batches of 8, "
            "learning rate 2e-5, 3 epochs, head on [CLS]; in our training loop, so they take less time than with the Trainer."
        ),
    )


def _median(found: dict[tuple[int, str], list[Score]], each: int, name: str) -> str:
    return f"{statistics.median(score.accuracy for score in found[each, name]):.1%}"


def _row(each: int, name: str, scores: Sequence[Score]) -> tuple[str, ...]:
    estimates = [score.estimate for score in scores if score.estimate is not None]
    gaps = [abs(score.estimate - score.accuracy) for score in scores if score.estimate is not None]
    return (
        str(each),
        name,
        ", ".join(
            f"{method} ({count})" for method, count in Counter(score.method for score in scores).items()
        ),
        _shares([score.accuracy for score in scores]),
        _shares([score.macro_f1 for score in scores]),
        _shares(estimates) if estimates else "",
        f"{100 * statistics.mean(gaps):.1f}" if gaps else "",
        f"{statistics.median(score.seconds for score in scores):.0f}",
    )


def _shares(values: Sequence[float]) -> str:
    low, middle, high = (100 * value for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"
