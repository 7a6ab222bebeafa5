"""Runs of method `label-studio-ml`, from labels in a Label Studio in memory to versions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from services.core.accuracy import headline_sentence
from services.core.domain import Manifest, Method
from services.core.errors import BadData, ModelClassError, Preempted
from services.core.settings import OwnModelSettings, Settings
from services.core.settings.adapter import LabelStudioSettings
from tests.support.model_classes import python_path
from tests.support.trainer import TrainerWorld
from tests.support.waiting import eventually

KEY = "a-key-of-label-studio"


@pytest.fixture
def own(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> TrainerWorld:
    """A world with thirty labels, whose runs train classes of learners.py."""
    classes = str(Path(__file__).with_name("classes"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([classes, python_path()]))
    world = TrainerWorld(tmp_path / "data", tiny)
    world.settings = Settings(
        label_studio=LabelStudioSettings(api_key=KEY), own_model=OwnModelSettings(files_mb=2.0)
    )
    world.label(30)
    return world


def train(world: TrainerWorld, name: str, **parameters: object) -> str:
    run = world.request(Method.LABEL_STUDIO_ML, model=f"learners:{name}", **parameters)
    world.train(run)
    return run


def versions(world: TrainerWorld) -> list[str]:
    return world.registry.versions(world.key)


def serve_newest(world: TrainerWorld) -> Manifest:
    world.serve(versions(world)[-1])
    return world.registry.manifests(world.key)[-1]


def test_what_fit_leaves_is_a_version(own: TrainerWorld) -> None:
    run = train(own, "Counter", learning_rate=0.5)
    found = own.manifest("support-1")
    assert set(found.files) == {"model/deep/runs.txt", "report.json"} | {
        name for name in found.files if name.startswith("model/") and "cache" in name
    }
    assert found.own_model
    assert found.own_model.model == "learners:Counter"
    assert found.own_model.metrics == {"accuracy": 0.875, "runs": 1.0}
    assert (found.own_model.tasks, found.own_model.answered) == (20, 20)
    assert (found.method, found.artefact.layout) == (Method.LABEL_STUDIO_ML, "label-studio-ml")
    assert (found.gate.promote, found.gate.kind, found.gate.compared_with) == (True, "not-evaluated", None)
    assert found.gate.reasons[0].startswith("Promoted: not evaluated; smoke-tested on 20 tasks: 20 with a")
    assert headline_sentence(found) == "Accuracy: not evaluated; `fit` reported accuracy 0.875, runs 1."
    assert not found.is_evaluated
    assert (found.lineage.texts, found.lineage.annotations_hash) == (30, own.labels(run).digest)
    assert own.registry.report(own.key, "support-1").texts == 30
    assert own.status(run).published[0].promote


def test_fit_continues_with_the_current_versions_files(own: TrainerWorld) -> None:
    train(own, "Counter")
    first = serve_newest(own)
    train(own, "Counter")
    second = serve_newest(own)
    assert second.own_model
    assert second.own_model.metrics["runs"] == 2
    assert (second.gate.compared_with, second.lineage.parent) == (first.version, first.version)
    for version, runs in (("support-1", "1"), ("support-2", "2")):
        assert own.registry.file(own.key, version, "model/deep/runs.txt").read_text() == runs


def test_another_class_begins_with_nothing(own: TrainerWorld) -> None:
    train(own, "Counter")
    serve_newest(own)
    train(own, "Reader")
    found = serve_newest(own)
    assert "model/deep/runs.txt" not in found.files
    assert found.gate.compared_with == "support-1"


def test_nothing_changed_makes_no_version_and_says_so(own: TrainerWorld) -> None:
    run = train(own, "Still")
    assert versions(own) == []
    assert own.status(run).message == (
        "No version: learners:Still has changed nothing in MODEL_DIR, so there is still no version of it."
    )


def test_a_class_without_fit_is_published_once(own: TrainerWorld) -> None:
    train(own, "OnlyPredicts")
    found = serve_newest(own)
    assert found.own_model
    assert (found.own_model.fitted_from, found.own_model.answered, found.lineage.texts) == (0.0, 0, 0)
    assert found.gate.promote
    run = train(own, "OnlyPredicts")
    assert versions(own) == ["support-1"]
    assert own.status(run).message.endswith("so support-1 stays.")


def test_a_version_whose_answers_fit_nothing_is_held(own: TrainerWorld) -> None:
    train(own, "FitsNothing")
    found = own.manifest("support-1")
    assert (found.gate.promote, found.gate.kind) == (False, "smoke-test")
    assert "dropped, because it does not fit the label config" in found.gate.reasons[0]


def test_a_version_that_does_not_answer_is_no_version(own: TrainerWorld) -> None:
    with pytest.raises(
        ModelClassError, match=r"learners:BreaksInPredict failed in `predict`: KeyError"
    ) as failed:
        train(own, "BreaksInPredict")
    assert KEY not in str(failed.value)
    assert versions(own) == []


def test_more_than_the_limit_is_not_published(own: TrainerWorld) -> None:
    with pytest.raises(BadData, match=r"left 3 MB in MODEL_DIR, more than FITLOOP_MODEL_FILES_MB \(2\)"):
        train(own, "Large")
    assert versions(own) == []


def test_a_class_that_is_not_there_is_named(own: TrainerWorld) -> None:
    with pytest.raises(ModelClassError, match=r"learners:Nobody cannot be imported: AttributeError"):
        train(own, "Nobody")


def test_an_interrupted_run_ends_the_class(
    own: TrainerWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flag = tmp_path / "fitting"
    monkeypatch.setenv("LEARNERS_LATER", str(flag))
    own.settings = _with_variables(own.settings)
    threading.Thread(target=_interrupt, args=(own, flag), daemon=True).start()
    with pytest.raises(Preempted):
        train(own, "Reader")
    assert versions(own) == []


def test_later_labels_decide_where_there_are_enough(
    own: TrainerWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first version knows the answers, the second has forgotten them."""
    flag = tmp_path / "fitting"
    monkeypatch.setenv("LEARNERS_LATER", str(flag))
    own.settings = _with_variables(own.settings)
    found = [_train_with_labels(own, flag)]
    monkeypatch.setenv("LEARNERS_FORGET", "1")
    found.append(_train_with_labels(own, flag))
    first, second = found
    assert (first.estimate.source, first.estimate.judged) == ("later-labels", 30)
    assert first.estimate.right > 25
    assert (first.is_evaluated, first.gate.promote, first.gate.kind) == (True, True, "first")
    assert (second.gate.promote, second.gate.kind, second.gate.compared_with) == (False, "worse", "support-1")
    assert second.gate.pairs == 30


def _with_variables(settings: Settings) -> Settings:
    own = OwnModelSettings(variables="LEARNERS_LATER,LEARNERS_FORGET")
    return Settings(label_studio=settings.label_studio, own_model=own)


def _train_with_labels(world: TrainerWorld, flag: Path) -> Manifest:
    """Train, while thirty labels come in after `fit` has begun."""
    threading.Thread(target=_label_meanwhile, args=(world, flag), daemon=True).start()
    train(world, "Reader")
    return serve_newest(world)


def _label_meanwhile(world: TrainerWorld, flag: Path) -> None:
    eventually(flag.exists)
    world.labelstudio.ticks += 100_000_000  # later than this machine's clock
    world.label(30)
    flag.unlink()


def _interrupt(world: TrainerWorld, flag: Path) -> None:
    eventually(flag.exists)
    world.stop.requested = True
