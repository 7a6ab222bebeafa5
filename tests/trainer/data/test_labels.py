"""data.labels: a run trains on the labels that it was requested for, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.core.errors import BadData, BadRequest, LabelStudioNotFound, StoreUnreachable
from services.core.labels import signature
from services.core.store.files import FileStore
from tests.support.trainer import WORDS, TrainerWorld


def segment(world: TrainerWorld, run: str) -> str:
    """The key of the segment that holds the run's labels."""
    (found,) = world.labels(run).segments
    return f"projects/{world.key}/labels/{found.sha256}.safetensors"


def labels_of(world: TrainerWorld, version: str) -> dict[str, int]:
    """How many texts of each label the version was made of."""
    return {one.label: one.examples for one in world.registry.report(world.key, version).per_label}


def test_later_labels_wait_for_the_next_run(world: TrainerWorld) -> None:
    tasks = world.label(30)
    run = world.request()
    world.label(6)
    for task in tasks[:9]:
        world.labelstudio.label(task, "money")
    for task in tasks[9:12]:
        world.labelstudio.unlabel(task)
    world.train(run)
    manifest = world.manifest("support-1")
    assert manifest.lineage.texts == 30
    assert manifest.lineage.annotations_hash == world.labels(run).digest
    assert labels_of(world, "support-1") == dict.fromkeys(WORDS, 10)


def test_only_texts_are_asked_of_label_studio(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request()
    world.labelstudio.reads.clear()
    world.train(run)
    reads = [
        read for read in world.labelstudio.reads if read != "unlabelled pages"
    ]  # meanwhile, for the pool
    assert reads == ["project", "texts"]


def test_a_changed_label_config_waits_for_the_next_run(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request()
    world.labelstudio.labels[1] = ("order", "refund")
    world.train(run)
    manifest = world.manifest("support-1")
    assert manifest.labels == tuple(WORDS)
    assert manifest.lineage.label_config_hash == world.labels(run).label_config_hash


def test_deleted_tasks_and_edited_texts_are_reported(world: TrainerWorld) -> None:
    tasks = world.label(33)
    run = world.request()
    world.labelstudio.delete_task(tasks[0])
    for task in tasks[1:3]:
        world.labelstudio.tasks[1][task]["data"] = {"text": "something else"}
    world.train(run)
    assert world.manifest("support-1").lineage.texts == 30
    report = world.registry.report(world.key, "support-1")
    assert {row.reason: row.count for row in report.not_counted} == {"deleted_task": 1, "changed_text": 2}


def test_missing_labels_are_a_bad_request(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request()
    world.store.delete(segment(world, run))
    with pytest.raises(BadRequest, match=f"Run {run} was requested for labels that cannot be read any more"):
        world.train(run)


def test_broken_labels_are_a_bad_request(world: TrainerWorld) -> None:
    world.label(30)
    run = world.request()
    key = segment(world, run)
    data = bytearray(world.store.read(key))
    data[-1] ^= 1
    world.store.write(key, bytes(data))
    with pytest.raises(BadRequest, match="differs from its name"):
        world.train(run)


def test_unreachable_labels_are_read_again(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.label(30)
    run = world.request()
    faults, read, key = iter(range(2)), FileStore.read, segment(world, run)

    def flaky(self: FileStore, name: str) -> bytes:
        if name == key and next(faults, None) is not None:
            raise StoreUnreachable("not now")
        return read(self, name)

    monkeypatch.setattr(FileStore, "read", flaky)
    world.train(run)
    assert world.manifest("support-1").lineage.texts == 30


def test_a_request_for_another_label_config_says_so(world: TrainerWorld) -> None:
    world.label(30)
    world.labelstudio.labels[1] = ()
    run = world.request()
    world.labelstudio.labels[1] = tuple(WORDS)
    with pytest.raises(BadData, match="was requested for another label config: request it again"):
        world.train(run)


def test_a_request_of_0_1_0_reads_the_labels(world: TrainerWorld) -> None:
    """Its leader counts changes from the snapshot."""
    tasks = world.label(30)
    run = world.request()
    digest = world.labels(run).digest
    world.forget_labels(run)
    world.train(run)
    manifest, snapshot = world.manifest("support-1"), world.runs.snapshot(run)
    assert (manifest.lineage.texts, manifest.lineage.annotations_hash) == (30, digest)
    assert snapshot is not None
    assert snapshot.tasks == {
        str(task): signature(world.labelstudio.tasks[1][task]["annotations"]) for task in tasks
    }
    project, _ = world.labelstudio.project(1)
    assert (snapshot.label_config_hash, snapshot.labels, snapshot.from_name) == (
        project.label_config_hash,
        tuple(WORDS),
        "label",
    )


def test_a_request_of_0_1_0_keeps_its_first_snapshot(world: TrainerWorld) -> None:
    """Labels that its leader has not seen a run for must count as changes."""
    world.label(1)
    run = world.request()
    world.forget_labels(run)
    for labelled in (1, 2):
        with pytest.raises(BadData):
            world.train(run)
        snapshot = world.runs.snapshot(run)
        assert snapshot is not None
        assert len(snapshot.tasks) == 1, labelled
        world.label(1)


@pytest.mark.parametrize("labels", [True, False])
def test_a_project_deleted_meanwhile_is_a_bad_request(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, labels: bool
) -> None:
    def gone(*_: object) -> Iterator[dict[str, Any]]:
        raise LabelStudioNotFound("no project 1")

    world.label(30)
    run = world.request()
    if not labels:
        world.forget_labels(run)
    monkeypatch.setattr(world.labelstudio, "texts" if labels else "annotated_tasks", gone)
    with pytest.raises(BadRequest, match="has no project 1"):
        world.train(run)
