"""Processes that are killed, or asked to end, in each stage, and the next attempt."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from services.core.domain import Manifest, Method, RunState
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import run_in_process, run_with_signal, temporary, temporary_files

FINE = {"budget_seconds": 1e6, "num_train_epochs": 6.0, "learning_rate": 5e-3}
VERSION = "projects/{key}/versions/support-1"


def killed(world: TrainerWorld, run: str, place: str, exists: str = "", says: bytes = b"") -> None:
    """The real process, ended by SIGKILL at that moment."""
    exists = exists.format(key=world.key, run=run)
    done = run_with_signal(world, run, place, exists=exists, says=says, FITLOOP_CHECKPOINT_SECONDS="0.001")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert world.status(run).state is RunState.RUNNING, "it could say nothing"


def is_whole(world: TrainerWorld, run: str, versions: list[str]) -> list[Manifest]:
    """The run's end: these versions and no other, DONE, trained on the labels that were requested."""
    status, request = world.status(run), world.runs.request(run)
    assert (status.state, status.exit_code) == (RunState.DONE, 0), status.message
    assert world.registry.versions(world.key) == [one.version for one in status.published] == versions
    found = [world.manifest(version) for version in versions]
    assert request is not None
    assert request.labels is not None
    for manifest in found:
        assert manifest.lineage.annotations_hash == request.labels.digest
        assert manifest.lineage.texts == request.labels.labelled, "each text is of one task"
        for name in manifest.files:
            world.registry.file(world.key, manifest.version, name)
    kept = {f"projects/{world.key}/versions/{one.version}/{name}" for one in found for name in one.files}
    manifests = {f"projects/{world.key}/versions/{one.version}/manifest.json" for one in found}
    versions_kept = set(world.store.keys(f"projects/{world.key}/versions/"))
    assert versions_kept == kept | manifests, "nothing of the killed process is left"
    assert world.runs.snapshot(run) is None
    assert not list(world.store.keys(f"runs/{run}/checkpoints/"))
    return found


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("place", "exists", "says"),
    [
        pytest.param(r"/status\.json$", "", b'"stage": "loading"', id="after reading"),
        pytest.param(
            r"/oos\.json$", f"{VERSION}/head.safetensors", b"", id="while files are put into the store"
        ),
        pytest.param(r"/manifest\.json$", f"{VERSION}/report.json", b"", id="right before the manifest"),
    ],
)
def test_run_killed_before_publishing_keeps_its_labels(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, place: str, exists: str, says: bytes
) -> None:
    world.label(30)
    run = world.request()
    killed(world, run, place, exists, says)
    assert any(temporary_files(world)), "it could not even tidy up"
    assert world.registry.versions(world.key) == []
    world.label(6)
    monkeypatch.setattr("tempfile.tempdir", str(temporary(world)))
    assert run_in_process(world, run, monkeypatch) == 0
    assert not any(temporary_files(world)), "the next process has tidied up after it"
    (version,) = is_whole(world, run, ["support-1"])
    assert version.lineage.texts == 30, "the labels that came later wait for the next run"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("place", "says"),
    [
        pytest.param(r"/status\.json$", b"", id="before the status says so"),
        pytest.param(r"/checkpoints/1/state\.json$", b'"fold-3"', id="in the second method"),
    ],
)
def test_run_killed_after_publishing_keeps_its_labels(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, place: str, says: bytes
) -> None:
    world.label(1_000)
    run = world.request(Method.AUTO, **FINE | {"num_train_epochs": 2.0})
    killed(world, run, place, f"{VERSION}/manifest.json", says)
    first = world.manifest("support-1")
    world.label(25)
    assert run_in_process(world, run, monkeypatch) == 0
    found = is_whole(world, run, ["support-1", "support-1b"])
    assert found[0] == first, "a version that exists is never made again"
    assert [one.method for one in found] == [Method.LINEAR_PROBE, Method.LP_FT]
    assert (found[1].lineage.resumed_from is not None) == (b"fold-3" in says)
    assert found[1].lineage.texts == 1_000, "the labels that came later wait for the next run"


@pytest.mark.usefixtures("quiet")
def test_resumed_fine_tune_equals_an_unbroken_one(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.label(60)
    unbroken, broken = world.request(Method.FINETUNE, **FINE), world.request(Method.FINETUNE, **FINE)
    assert run_in_process(world, unbroken, monkeypatch) == 0
    says = rb'(?s)"current": "everything".*"step": 3'
    done = run_with_signal(
        world, broken, r"/state\.json$", says=says, by=signal.SIGTERM, FITLOOP_CHECKPOINT_SECONDS="0.001"
    )
    assert done.returncode == 75, done.stderr
    assert world.status(broken).state is RunState.PREEMPTED
    assert run_in_process(world, broken, monkeypatch) == 0
    one, other = world.manifest("support-1"), world.manifest("support-2")
    assert other.lineage.resumed_from in ("everything, step 3", "everything, step 4")
    assert (other.lineage.texts, other.lineage.annotations_hash) == (60, one.lineage.annotations_hash)
    before, after = (world.registry.out_of_sample(world.key, name) for name in ("support-1", "support-2"))
    assert before.answers.keys() == after.answers.keys()
    for key, given in before.answers.items():
        assert np.abs(np.array(given) - np.array(after.answers[key])).max() < 0.02
    weights = [world.weights(name) for name in ("support-1", "support-2")]
    for name, tensor in weights[0].items():
        np.testing.assert_allclose(tensor, weights[1][name], atol=5e-3, err_msg=name)
