"""Whole runs, from labels in a Label Studio in memory to versions, with a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.core.accuracy import TOO_FEW
from services.core.domain import ExpectedAccuracy, Method, Parameters, RunRequest, RunState, Served, Serving
from services.core.encoders import Encoders
from services.core.errors import BadConfig, BadData, BadRequest, Preempted, StoreError
from services.core.labels import text_key
from services.core.serving_table import ServingTableFile
from services.core.store.files import FileStore
from services.engine.loading import Loader
from services.trainer.data.split import is_in_holdout, split_key
from services.trainer.evaluation import is_requested_by_person
from services.trainer.methods import TrainedModel, TrainingContext, plan
from services.trainer.methods.by_name import METHODS
from services.trainer.process.lifecycle import Stop
from tests.support.base_models import ARCHITECTURES, build_tiny_base
from tests.support.trainer import WORDS, FakeStop, TrainerWorld, build_text


def test_published_version_is_complete(world: TrainerWorld) -> None:
    world.label(90)
    run = world.request()
    world.train(run)
    manifest = world.manifest("support-1")
    assert manifest.method is Method.LINEAR_PROBE
    assert manifest.labels == tuple(WORDS)
    assert (manifest.artefact.layout, manifest.artefact.engine) == ("head", "encoder")
    assert Encoders(world.store).exists(manifest.encoder)
    assert (manifest.estimate.source, manifest.estimate.judged) == ("cross-fit", 90)
    assert manifest.estimate.right > 60
    assert manifest.gate.promote
    assert manifest.gate.kind == "first"
    lineage = manifest.lineage
    assert (lineage.run, lineage.texts, lineage.trained_on_everything, lineage.parent) == (
        run,
        90,
        True,
        None,
    )
    assert len(lineage.annotation_ids) == 90
    assert manifest.files.keys() == {"head.safetensors", "oos.json", "report.json"}
    answers = world.registry.out_of_sample(world.key, "support-1")
    assert answers.answers.keys() == set(answers.trained_keys)
    assert all(abs(sum(given) - 1) < 1e-4 for given in answers.answers.values())
    report = json.loads(world.registry.file(world.key, "support-1", "report.json").read_text())
    assert report["texts"] == 90
    assert lineage.annotations_hash == world.labels(run).digest
    assert world.runs.snapshot(run) is None
    assert [one.version for one in world.status(run).published] == ["support-1"]


def test_accuracy_to_expect_is_that_on_unlabelled_texts(world: TrainerWorld) -> None:
    world.label(60)
    world.train(world.request())
    assert world.manifest("support-1").expected == ExpectedAccuracy(None, reason=TOO_FEW)
    world.add_texts(300)
    world.train(world.request_embed())
    world.label(30)
    world.train(world.request(Method.LINEAR_PROBE))
    newest = world.registry.manifests(world.key)[-1]
    assert newest.expected
    assert newest.expected.accuracy
    assert newest.expected.texts >= 20
    assert 0.5 < newest.expected.accuracy <= 1


@pytest.mark.parametrize(
    ("asked", "method", "found"),
    [
        ({"method": "finetune"}, Method.FINETUNE, True),
        ({"seed": "3"}, Method.LP_FT, True),
        ({"seed": "3"}, Method.AUTO, False),
        ({}, Method.FINETUNE, False),
    ],
)
def test_which_versions_are_requested_by_a_person(asked: dict[str, str], method: Method, found: bool) -> None:
    request = RunRequest("1-1", "1-x", 1, "asked for", Parameters(method=method), 1.0, asked=asked)
    assert is_requested_by_person(request) is found


def test_requested_method_is_promoted_on_few_texts(world: TrainerWorld) -> None:
    world.label(90)
    world.train(world.request())
    ServingTableFile(world.registry.store).write(Serving(projects={world.key: Served(current="support-1")}))
    world.train(world.request(Method.LP_FT, asked={"method": "lp-ft"}, num_train_epochs=1.0))
    gate = world.manifest("support-2").gate
    assert (gate.promote, gate.compared_with, gate.pairs < 100) == (True, "support-1", True)
    assert world.manifest("support-2").expected is None, "it has answered no unlabelled text"
    assert gate.reasons[0].startswith(
        "Promoted: a person requested it, and it is not significantly worse than support-1"
    )


def test_published_version_is_accurate(world: TrainerWorld) -> None:
    world.label(90)
    world.train(world.request())
    manifest = world.manifest("support-1")
    model = Loader(world.registry).model(manifest)
    texts = [(label, build_text(label, world.random)) for label in WORDS for _ in range(10)]
    scores = model.scores_of([text for _, text in texts])
    assert np.mean([scores.best(row)[0] == label for row, (label, _) in enumerate(texts)]) > 0.6


def test_second_version_is_compared_with_current(world: TrainerWorld) -> None:
    world.label(60)
    world.train(world.request())
    world.serve("support-1")
    world.label(60)
    world.train(world.request())
    manifest = world.manifest("support-2")
    assert manifest.gate.compared_with == manifest.lineage.parent == "support-1"
    assert manifest.gate.pairs == 120, "for texts that it never saw, what it answers now"
    changed = world.registry.report(world.key, "support-2").changed
    assert changed is not None
    assert (changed.compared_with, changed.texts) == ("support-1", 120)
    assert (len(changed.fixed), len(changed.broken)) == (manifest.gate.fixed, manifest.gate.broken)
    assert world.registry.report(world.key, "support-1").changed is None, "there was nothing before it"


def test_unreadable_current_counts_as_none(world: TrainerWorld) -> None:
    world.label(60)
    world.train(world.request())
    world.serve("support-1")
    (world.folder / f"projects/{world.key}/versions/support-1/oos.json").write_text("{}")
    world.train(world.request())
    assert world.manifest("support-2").gate.kind == "first"
    world.serve("never-was")
    world.train(world.request())
    assert world.manifest("support-3").gate.kind == "first"


def test_removed_label_promotes(world: TrainerWorld) -> None:
    world.label(90)
    world.train(world.request())
    world.serve("support-1")
    world.labelstudio.labels[1] = ("order", "money")
    world.train(world.request())
    manifest = world.manifest("support-2")
    assert manifest.gate.kind == "labels-changed"
    assert manifest.labels == ("order", "money")


def test_version_of_another_control_is_not_compared(world: TrainerWorld) -> None:
    world.label(60)
    world.train(world.request())
    world.serve("support-1")
    choices = "".join(f'<Choice value="{label}"/>' for label in ("order", "money", "account"))
    world.labelstudio.more_controls = f'<Choices name="mood" toName="text">{choices}</Choices>'
    for task, row in world.labelstudio.tasks[1].items():
        (label,) = row["annotations"][0]["result"][0]["value"]["choices"]
        world.labelstudio.label(task, label, control="mood")
    world.train(world.request(control="mood"))
    manifest = world.manifest("support-2")
    assert (world.manifest("support-1").from_name, manifest.from_name) == ("label", "mood")
    assert (manifest.gate.kind, manifest.gate.compared_with) == ("first", "support-1")
    assert manifest.gate.reasons[-1] == "support-1 was made for another control."


def test_missing_control_is_bad_data(world: TrainerWorld) -> None:
    world.label(60)
    with pytest.raises(BadData, match="control 'topic', but the label config has no such control"):
        world.train(world.request(control="topic"))


def test_pinned_project_says_versions_are_not_served(world: TrainerWorld) -> None:
    world.label(60)
    world.train(world.request())
    world.serve("support-1", pinned=True)
    run = world.request()
    world.train(run)
    assert "pinned to support-1" in world.status(run).published[0].sentence


@pytest.mark.parametrize("method", [Method.FINETUNE, Method.LP_FT])
def test_cheap_fine_tune_is_cross_fitted(world: TrainerWorld, method: Method) -> None:
    world.label(60)
    world.train(world.request(method, budget_seconds=1e6, num_train_epochs=8.0, learning_rate=5e-3))
    manifest = world.manifest("support-1")
    assert (manifest.method, manifest.artefact.layout) == (method, "head")
    assert manifest.encoder != manifest.lineage.base_digest, "an encoder of its own"
    assert (manifest.estimate.source, manifest.estimate.judged) == ("cross-fit", 60)
    assert manifest.estimate.right > 25
    assert manifest.lineage.trained_on_everything
    taken = manifest.lineage.parameters
    assert (taken.learning_rate, taken.num_train_epochs, taken.weight_decay) == (5e-3, 8.0, 0.01)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_fine_tuned_and_served(
    world: TrainerWorld, tmp_path: Path, architecture: str
) -> None:
    world.label(30)
    world.base = build_tiny_base(tmp_path / architecture, architecture)
    for method in (Method.FINETUNE, Method.LP_FT):
        world.train(world.request(method, budget_seconds=1e-6, num_train_epochs=1.0))
    for version in ("support-1", "support-2"):
        manifest = world.manifest(version)
        Loader(world.registry).model(manifest).smoke_test()
        is_whole = architecture == "deberta-v2" and manifest.method is Method.FINETUNE
        assert manifest.artefact.layout == ("sequence-classification" if is_whole else "head")
        if architecture == "deberta-v2" and not is_whole:
            assert Encoders(world.store).manifest(manifest.encoder).engine == "ort-int8"


def test_texts_of_symbols_are_trained_and_evaluated(world: TrainerWorld) -> None:
    for number in range(24):
        task = world.labelstudio.add_task()
        face = chr((0x1F600, 0x1F910)[number % 2] + number // 2)
        world.labelstudio.tasks[1][task]["data"] = {"text": f"ok {face}"}
        world.labelstudio.label(task, tuple(WORDS)[number % 2])
    world.train(world.request())
    manifest = world.manifest("support-1")
    assert manifest.lineage.texts == 24
    assert len(world.registry.out_of_sample(world.key, "support-1").answers) == 24


def test_diverging_learning_rate_is_bad_config(world: TrainerWorld) -> None:
    world.label(30)
    with pytest.raises(BadConfig, match="set a LEARNING_RATE below"):
        world.train(world.request(Method.FINETUNE, learning_rate=1e38, num_train_epochs=5.0))


def test_expensive_fine_tune_uses_a_holdout(world: TrainerWorld) -> None:
    world.label(60)
    world.train(world.request(Method.FINETUNE, budget_seconds=1e-6, num_train_epochs=1.0))
    manifest = world.manifest("support-1")
    assert manifest.estimate.source == "holdout"
    assert not manifest.lineage.trained_on_everything
    answers = world.registry.out_of_sample(world.key, "support-1")
    texts = [task["data"]["text"] for task in world.labelstudio.tasks[1].values()]
    held_out = {text_key(text): is_in_holdout(split_key(text), 60) for text in texts}
    assert all(held_out[key] for key in answers.answers)
    assert not any(held_out[key] for key in answers.trained_keys)
    assert manifest.lineage.texts == len(answers.trained_keys) == 60 - len(answers.answers)


def test_each_setting_changes_the_weights(world: TrainerWorld) -> None:
    world.label(30)
    cheap = {"num_train_epochs": 1.0, "learning_rate": 1e-3, "weight_decay": 0.0, "budget_seconds": 1e-6}
    weights = []
    for change in ({}, {}, {"learning_rate": 5e-3}, {"num_train_epochs": 2.0}, {"weight_decay": 0.9}):
        run = world.request(Method.FINETUNE, **(cheap | change))
        world.train(run)
        name = world.status(run).published[0].version
        weights.append(world.manifest(name).encoder)
    assert weights[0] == weights[1], "the same settings give the same model"
    assert len(set(weights)) == 4


def test_auto_says_why_it_skips_fine_tuning(world: TrainerWorld) -> None:
    world.label(60)
    run = world.request(Method.AUTO)
    world.train(run)
    status = world.status(run)
    assert [one.version for one in status.published] == ["support-1"]
    assert status.message.endswith("there are 60.")
    assert world.manifest("support-1").method is Method.LINEAR_PROBE


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auto` try its second method on few texts."""
    monkeypatch.setattr(plan, "SECOND_METHOD_MIN_TEXTS", 300)


@pytest.mark.usefixtures("few_texts")
def test_auto_drops_a_held_fine_tune(world: TrainerWorld) -> None:
    world.label(300)
    run = world.request(Method.AUTO, budget_seconds=1e6, num_train_epochs=1.0, learning_rate=0.05)
    world.train(run)
    assert world.registry.versions(world.key) == ["support-1"]
    assert "Fine-tuning was tried and not kept." in world.status(run).message


@pytest.mark.usefixtures("few_texts")
def test_auto_publishes_a_better_fine_tune(world: TrainerWorld) -> None:
    world.label(300)
    run = world.request(Method.AUTO, budget_seconds=1e6, num_train_epochs=6.0, learning_rate=5e-3)
    world.train(run)
    second = world.manifest("support-1b")
    assert second.method is Method.LP_FT
    assert second.gate.promote
    assert second.gate.compared_with == "support-1", "what will be served by then"
    assert [one.version for one in world.status(run).published] == ["support-1", "support-1b"]


@pytest.mark.usefixtures("few_texts")
@pytest.mark.parametrize("again", [False, True])
def test_failed_second_method_keeps_the_first_version(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    def broken(_: TrainingContext) -> TrainedModel:
        raise RuntimeError("can't allocate memory for a text of a customer")

    world.label(300)
    run = world.request(Method.AUTO, budget_seconds=1e6)
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, Method.LP_FT, broken)
        world.train(run)
    if again:  # and what fails before a second method is begun, in a process that found the first version
        world.labelstudio.tasks[1].clear()
        world.train(run)
    status = world.status(run)
    assert status.state is RunState.DONE
    assert [one.version for one in status.published] == ["support-1"]
    if again:
        assert "Fine-tuning failed: No label counts yet" in status.message
    else:
        assert "Fine-tuning failed: it crashed. This is a bug in Fitloop" in status.message
        assert status.message.startswith(status.published[0].sentence)
    assert not list(world.store.keys(f"runs/{run}/checkpoints/"))


@pytest.mark.usefixtures("few_texts")
def test_preempted_second_method_is_preemption(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: TrainingContext) -> TrainedModel:
        raise Preempted("asked to end")

    world.label(300)
    monkeypatch.setitem(METHODS, Method.LP_FT, ended)
    with pytest.raises(Preempted):
        world.train(world.request(Method.AUTO, budget_seconds=1e6))


def test_crash_before_any_version_fails_the_run(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: TrainingContext) -> TrainedModel:
        raise RuntimeError

    world.label(30)
    monkeypatch.setitem(METHODS, Method.LINEAR_PROBE, broken)
    with pytest.raises(RuntimeError):
        world.train(world.request(Method.AUTO))


@pytest.mark.usefixtures("few_texts")
def test_auto_stops_a_slow_fine_tune(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_TOLERANCE", 0.0)
    world.label(300)
    run = world.request(Method.AUTO, budget_seconds=1e6)
    world.train(run)
    assert world.registry.versions(world.key) == ["support-1"]
    assert "Fine-tuning was stopped" in world.status(run).message
    assert not list(world.store.keys(f"runs/{run}/checkpoints/"))


def test_published_run_does_nothing(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request()
    world.train(run)
    created = world.manifest("support-1").created_at
    world.train(run)
    assert world.manifest("support-1").created_at == created
    assert [one.version for one in world.status(run).published] == ["support-1"]
    assert world.status(run).attempt == 2


def test_auto_resumes_with_its_second_method(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request(Method.AUTO)
    world.train(run)
    created = world.manifest("support-1").created_at
    world.train(run)
    assert world.manifest("support-1").created_at == created
    assert world.status(run).message.endswith("there are 30.")


def test_resumed_fine_tune_uses_its_labels(
    world: TrainerWorld,
) -> None:
    world.label(60)
    settings = {"budget_seconds": 1e6, "num_train_epochs": 3.0, "learning_rate": 5e-3}
    unbroken = world.request(Method.FINETUNE, **settings)
    world.train(unbroken)
    broken = world.request(Method.FINETUNE, **settings)
    world.stop = FakeStop(60 + 20)
    with pytest.raises(Preempted):
        world.train(broken)
    assert list(world.store.keys(f"runs/{broken}/checkpoints/"))
    world.label(12)
    world.stop = Stop()
    world.train(broken)
    one, other = world.manifest("support-1"), world.manifest("support-2")
    assert other.lineage.resumed_from is not None
    assert other.lineage.texts == 60
    assert other.lineage.annotations_hash == one.lineage.annotations_hash
    before, after = (world.registry.out_of_sample(world.key, name) for name in ("support-1", "support-2"))
    for key, given in before.answers.items():
        assert np.abs(np.array(given) - np.array(after.answers[key])).max() < 0.02
    assert not list(world.store.keys(f"runs/{broken}/checkpoints/")), "nothing is resumed after the end"


def test_a_deleted_task_restarts_the_fine_tune(world: TrainerWorld) -> None:
    tasks = world.label(60)
    run = world.request(Method.FINETUNE, budget_seconds=1e6, num_train_epochs=1.0)
    world.stop = FakeStop(60 + 6)
    with pytest.raises(Preempted):
        world.train(run)
    world.labelstudio.delete_task(tasks[0])
    world.label(6)
    world.stop = Stop()
    world.train(run)
    lineage = world.manifest("support-1").lineage
    assert (lineage.texts, lineage.resumed_from) == (59, None)


def test_preempted_probe_publishes_nothing(world: TrainerWorld) -> None:
    world.label(30)
    world.stop = Stop(requested=True)
    with pytest.raises(Preempted):
        world.train(world.request())
    assert world.registry.versions(world.key) == []


def test_a_label_config_without_choices_is_bad_data(world: TrainerWorld) -> None:
    world.label(30)
    world.labelstudio.labels[1] = ()
    with pytest.raises(BadData, match="needs a <Choices>"):
        world.train(world.request())


def test_reused_project_id_is_a_bad_request(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request()
    world.labelstudio.add_project(1, tuple(WORDS))
    with pytest.raises(BadRequest, match="its id used again"):
        world.train(run)


def test_missing_base_model_says_what_to_set(world: TrainerWorld) -> None:
    world.label(30)
    world.base = world.folder / "no such model"
    with pytest.raises(BadConfig, match="BASELINE_MODEL_NAME"):
        world.train(world.request())


def test_full_disk_leaves_no_partial_version(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = FileStore.upload

    def full(self: FileStore, source: object, key: str) -> None:
        if key.endswith("head.safetensors"):
            raise StoreError("no space left") from OSError(28, "No space left on device")
        upload(self, source, key)  # type: ignore[arg-type]

    world.label(30)
    monkeypatch.setattr(FileStore, "upload", full)
    with pytest.raises(StoreError, match="no space"):
        world.train(world.request())
    assert world.registry.versions(world.key) == []


def test_version_name_is_the_setting(world: TrainerWorld) -> None:
    world.label(30)
    world.train(world.request(model_name="my-model"))
    assert world.registry.versions(world.key) == ["my-model-1"]


def test_another_runs_version_is_republished(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request(model_name="support")
    world.train(run)
    manifest = world.manifest("support-1")
    other = replace(manifest, lineage=replace(manifest.lineage, run="9-1"))
    world.registry.publish(world.registry.folder(world.key, "support-1").parent / "none", other)
    world.train(run)
    assert world.manifest("support-1").lineage.run == run
