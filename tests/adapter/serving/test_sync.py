"""A restarted sync still predicts new tasks, and abandons no push for a title."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.adapter.serving.sync import LabelStudioSync
from services.adapter.state.documents import ProjectDocuments
from services.core.labels import parse_label_space
from services.core.store.files import FileStore
from tests.adapter.serving.test_refresh import RefreshWorld

VERSION = "support-1"


@pytest.fixture
def world() -> RefreshWorld:
    return RefreshWorld(20)


@pytest.fixture
def documents(tmp_path: Path) -> ProjectDocuments:
    return ProjectDocuments(FileStore(tmp_path), "1-1")


def _sync(world: RefreshWorld, documents: ProjectDocuments) -> LabelStudioSync:
    sync = LabelStudioSync(documents, world.refresher)
    sync.load()
    return sync


def _follow(world: RefreshWorld, sync: LabelStudioSync) -> None:
    project, _ = world.label_studio.project(1)
    sync.follow_served(project, parse_label_space(project.label_config), VERSION, is_quiet=True)


def _work(world: RefreshWorld) -> None:
    while world.refresher.run_due_job(world.now):
        pass


def test_new_tasks_survive_a_restarted_reconciler(world: RefreshWorld, documents: ProjectDocuments) -> None:
    first = _sync(world, documents)
    first.note_task_count(20)
    _follow(world, first)
    _work(world)
    _follow(world, first)
    world.tasks.append(world.label_studio.add_task())
    second = _sync(world, documents)
    second.note_task_count(21)
    _follow(world, second)
    _work(world)
    assert world.pushed == world.tasks


def test_unfinished_push_is_not_abandoned_for_a_title(
    world: RefreshWorld, documents: ProjectDocuments
) -> None:
    sync = _sync(world, documents)
    _follow(world, sync)
    _work(world)
    _follow(world, sync)
    world.tasks.append(world.label_studio.add_task())
    sync.note_task_count(21)
    _follow(world, sync)
    sync.remember_setup(None, "http://elsewhere:9090")
    sync.save_setup()
    _follow(world, sync)
    _work(world)
    assert world.pushed == world.tasks


def test_job_of_a_removed_project_is_dropped(world: RefreshWorld, documents: ProjectDocuments) -> None:
    sync = _sync(world, documents)
    _follow(world, sync)
    world.current = "none"
    world.label_studio.reads.clear()
    _work(world)
    assert (sync.progress(1), world.label_studio.reads) == (None, [])
