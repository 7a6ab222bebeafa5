"""Runs by fine-tuning where a text may have several labels, or none: what is published, served and resumed."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.core.domain import Method
from services.core.errors import Preempted
from services.core.pool import pool_predictions
from services.engine.compute import Scores
from services.engine.loading import Loader
from services.trainer.methods import plan
from services.trainer.process.lifecycle import Stop
from tests.support.base_models import build_tiny_base, minilm
from tests.support.label_sets import LABELS, add_text, allow_several, label_sets
from tests.support.preemption import CHECKPOINTS, check_resumed_run
from tests.support.trainer import FakeStop, TrainerWorld

FINE: dict[str, Any] = {"num_train_epochs": 4.0, "learning_rate": 5e-3, "budget_seconds": 1e6}
_NLUPP = Path(os.environ.get("FITLOOP_DATA", "../shared/data")) / "nlupp" / "banking.jsonl"


@pytest.fixture
def several(world: TrainerWorld) -> TrainerWorld:
    return allow_several(world)


def scores(world: TrainerWorld, version: str, texts: list[str]) -> Scores:
    """Return what a predictor answers."""
    with closing(Loader(world.registry).model(world.manifest(version))) as model:
        return model.scores_of(texts)


def text_of(world: TrainerWorld, task: int) -> str:
    return str(world.labelstudio.tasks[1][task]["data"]["text"])


@pytest.mark.parametrize("method", [Method.FINETUNE, Method.LP_FT])
def test_a_tuned_version_chooses_several_labels(several: TrainerWorld, method: Method) -> None:
    label_sets(several, 80)
    tasks = [add_text(several), add_text(several, "order"), add_text(several, "order", "account")]
    several.train(several.request(method, **FINE))
    manifest = several.manifest("support-1")
    assert (manifest.multi_label, manifest.method, manifest.labels) == (True, method, LABELS)
    assert (manifest.gate.promote, manifest.gate.kind) == (True, "first")
    assert (manifest.estimate.judged, manifest.estimate.source) == (80, "cross-fit")
    assert manifest.estimate.micro_f1 is not None
    assert manifest.estimate.micro_f1 > 0.6
    assert manifest.lineage.texts == 80
    found = scores(several, "support-1", [text_of(several, task) for task in tasks])
    answers = several.registry.out_of_sample(several.key, "support-1")
    assert found.thresholds is not None
    assert answers.thresholds == pytest.approx(tuple(found.thresholds.tolist()))
    stored = pool_predictions(several.registry, manifest)
    assert stored is not None
    assert set(stored.tasks.tolist()) == set(tasks)
    chosen = {int(task): set(stored.chosen_at(row)) for row, task in enumerate(stored.tasks)}
    assert [chosen[task] for task in tasks] == [
        set(np.flatnonzero(row >= found.thresholds).tolist()) for row in found.probabilities
    ]


def test_a_holdout_evaluates_what_is_trained_on_everything(several: TrainerWorld) -> None:
    label_sets(several, 80)
    several.train(several.request(Method.LP_FT, **FINE | {"budget_seconds": 0.001}))
    manifest = several.manifest("support-1")
    assert manifest.estimate.source == "holdout"
    assert 0 < manifest.estimate.judged < 40
    report = several.registry.report(several.key, "support-1")
    assert [one.label for one in report.per_label] == list(LABELS)
    assert sum(one.answers for one in report.reliability) == manifest.estimate.judged * len(LABELS)


def test_it_is_compared_with_the_probe_by_sets(several: TrainerWorld) -> None:
    label_sets(several, 112)
    several.train(several.request())
    several.serve("support-1")
    several.train(several.request(Method.LP_FT, **FINE | {"num_train_epochs": 2.0}))
    gate = several.manifest("support-2").gate
    assert (gate.compared_with, gate.pairs) == ("support-1", 112)
    assert gate.promote == (gate.fixed > gate.broken)


def test_auto_publishes_its_second_method_only_if_it_is_better(
    several: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SECOND_METHOD_MIN_SETS", 100)
    label_sets(several, 112)
    run = several.request(Method.AUTO, **FINE | {"num_train_epochs": 2.0})
    several.train(run)
    first, *rest = (several.manifest(one.version) for one in several.status(run).published)
    assert first.method is Method.LINEAR_PROBE
    for one in rest:
        assert (one.method, one.gate.kind, one.gate.compared_with) == (Method.LP_FT, "better", first.version)
    assert rest or "Fine-tuning was tried and not kept" in several.status(run).message


def test_auto_says_why_it_tries_no_second_method(several: TrainerWorld) -> None:
    label_sets(several, 40)
    run = several.request(Method.AUTO)
    several.train(run)
    assert "is tried with 500 labelled texts or more; there are 40" in several.status(run).message


def test_last_layers_are_trained_on_cached_states(tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path / "deep", spread=0.3, layers=4)
    deep = allow_several(TrainerWorld(tmp_path / "data", base))
    label_sets(deep, 60)
    deep.train(deep.request(**FINE))
    deep.train(deep.request(Method.LP_FT, **FINE))
    before, after = deep.weights("support-1"), deep.weights("support-2")
    changed = {name[:15] for name, one in after.items() if not np.array_equal(one, before[name])}
    assert changed == {"encoder.layer.2", "encoder.layer.3"}
    assert deep.manifest("support-2").lineage.layers == 2


def test_a_preempted_run_resumes(several: TrainerWorld) -> None:
    label_sets(several, 60)
    check_resumed_run(several, FINE)


def test_labels_that_change_end_a_checkpoint(several: TrainerWorld) -> None:
    label_sets(several, 24)
    task = add_text(several, "order", "money")
    several.labelstudio.label(task, "order", "money")
    run = several.request(Method.FINETUNE, **FINE)
    several.checkpoint_seconds = 0.0
    several.stop = FakeStop(60)
    with pytest.raises(Preempted):
        several.train(run)
    assert several.store.folders(CHECKPOINTS.format(run=run))
    several.labelstudio.label(task, "order")
    several.forget_labels(run)
    several.stop = Stop()
    several.train(run)
    assert several.manifest("support-1").lineage.resumed_from is None


def test_a_classifier_of_its_own_is_served_with_its_thresholds(tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path / "base", "deberta-v2", spread=0.3)
    world = allow_several(TrainerWorld(tmp_path / "data", base))
    label_sets(world, 48)
    task = add_text(world, "order", "money")
    world.train(world.request(Method.FINETUNE, **FINE))
    manifest = world.manifest("support-1")
    assert (manifest.artefact.layout, manifest.encoder) == ("sequence-classification", "")
    found = scores(world, "support-1", [text_of(world, task), "the weather is nice today"])
    thresholds = world.registry.out_of_sample(world.key, "support-1").thresholds
    assert found.thresholds is not None
    assert thresholds == pytest.approx(tuple(found.thresholds.tolist()))
    assert found.probabilities.shape == (2, len(LABELS))
    assert np.isfinite(found.probabilities).all()


@pytest.mark.slow
@pytest.mark.skipif(minilm() is None, reason="the package with all-MiniLM-L6-v2's weights is not installed")
@pytest.mark.skipif(not _NLUPP.exists(), reason="FITLOOP_DATA names no folder with nlupp/banking.jsonl")
def test_minilm_learns_intents(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in _NLUPP.read_text("utf-8").splitlines()]
    rows = list({row["text"]: row["intents"] for row in lines if row["fold"] < 2}.items())[:160]
    labels = tuple(sorted({label for _, found in rows for label in found}))
    world = allow_several(TrainerWorld(tmp_path / "data", minilm() or Path()))
    world.labelstudio.add_project(1, labels)
    for text, found in rows[:100]:
        task = world.labelstudio.add_task()
        world.labelstudio.tasks[1][task]["data"] = {"text": text}
        world.labelstudio.label(task, *found)
    world.train(world.request(Method.LP_FT, budget_seconds=0.001))
    manifest = world.manifest("support-1")
    assert (manifest.lineage.layers, manifest.multi_label, manifest.gate.promote) == (2, True, True)
    answers = scores(world, "support-1", [text for text, _ in rows[100:]])
    true = np.array([[label in found for label in labels] for _, found in rows[100:]])
    assert answers.thresholds is not None
    given = answers.probabilities >= answers.thresholds
    assert 2 * (given & true).sum() / (given.sum() + true.sum()) > 0.5
