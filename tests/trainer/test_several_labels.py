"""Whole runs where a text may have several labels, from a Label Studio in memory to versions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.core.domain import Method
from services.core.errors import BadData
from services.core.pool import pool_predictions
from services.engine.head import read_head
from tests.support.label_sets import LABELS, add_text, allow_several, label_sets
from tests.support.trainer import TrainerWorld


@pytest.fixture
def several(world: TrainerWorld) -> TrainerWorld:
    return allow_several(world)


def test_a_version_chooses_several_labels(several: TrainerWorld) -> None:
    label_sets(several, 80)
    several.train(several.request(Method.AUTO))
    manifest = several.manifest("support-1")
    assert (manifest.multi_label, manifest.labels, manifest.method) == (True, LABELS, Method.LINEAR_PROBE)
    assert (manifest.gate.promote, manifest.gate.kind) == (True, "first")
    assert manifest.estimate.judged == 80
    assert manifest.estimate.micro_f1 is not None
    assert manifest.estimate.micro_f1 > 0.7
    head = read_head(several.registry.file(several.key, "support-1", "head.safetensors"))
    assert head.thresholds is not None
    answers = several.registry.out_of_sample(several.key, "support-1")
    assert answers.thresholds == pytest.approx(tuple(head.thresholds.tolist()))
    assert len(several.status(manifest.lineage.run).published) == 1


def test_its_report_is_about_labels(several: TrainerWorld) -> None:
    label_sets(several, 60)
    several.train(several.request())
    path = several.registry.file(several.key, "support-1", "report.json")
    report = several.registry.report(several.key, "support-1")
    assert report.confusion == ()
    assert [one.label for one in report.per_label] == list(LABELS)
    assert all(one.examples >= 28 and one.recall is not None for one in report.per_label)
    assert "weather" not in path.read_text()
    assert (report.judged, len(report.reliability)) == (60, 15)
    assert sum(one.answers for one in report.reliability) == 60 * len(LABELS)
    assert all(one.texts <= min(60, one.answers) for one in report.reliability)
    assert all(one.texts <= one.independent <= one.answers for one in report.reliability)


def test_a_version_is_compared_by_sets(several: TrainerWorld) -> None:
    label_sets(several, 60)
    several.train(several.request())
    several.serve("support-1")
    label_sets(several, 20)
    several.train(several.request())
    gate = several.manifest("support-2").gate
    assert (gate.compared_with, gate.pairs) == ("support-1", 80)
    assert gate.promote


def test_a_version_for_single_labels_is_replaced(several: TrainerWorld) -> None:
    several.labelstudio.attributes = ""
    several.label(30)
    several.train(several.request())
    several.serve("support-1")
    several.labelstudio.attributes = 'choice="multiple"'
    label_sets(several, 40)
    several.train(several.request())
    gate = several.manifest("support-2").gate
    assert (gate.promote, gate.kind, gate.compared_with) == (True, "first", "support-1")


def test_unlabelled_texts_are_answered_by_sets(several: TrainerWorld) -> None:
    label_sets(several, 64)
    tasks = [add_text(several), add_text(several, "order"), add_text(several, "order", "account")]
    several.train(several.request())
    manifest = several.manifest("support-1")
    found = pool_predictions(several.registry, manifest)
    assert found is not None
    assert found.chosen is not None
    chosen = {
        int(task): tuple(LABELS[number] for number in found.chosen_at(row))
        for row, task in enumerate(found.tasks)
    }
    assert chosen.keys() == set(tasks)
    assert chosen[tasks[0]] == ()
    assert set(chosen[tasks[2]]) & {"order", "account"}
    assert (np.diff(found.scores) >= 0).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()


def test_only_empty_answers_are_too_few(several: TrainerWorld) -> None:
    for _ in range(5):
        several.labelstudio.label(add_text(several))
    with pytest.raises(BadData, match="each of 5 texts has no label"):
        several.train(several.request())


def test_an_answer_without_a_label_is_an_example(several: TrainerWorld) -> None:
    label_sets(several, 32)
    run = several.request()
    several.train(run)
    assert several.manifest("support-1").lineage.texts == 32
    assert replace(several.labels(run)).labelled == 32
