"""A restarted sync still predicts new tasks, and abandons no push for a title."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.adapter.serving.sync import LabelStudioSync
from services.adapter.state.documents import ProjectDocuments
from services.core.labels import parse_label_space
from services.core.store.files import FileStore
from tests.adapter.serving.test_refresh import Bench

VERSION = "support-1"


@pytest.fixture
def bench() -> Bench:
    return Bench(20)


@pytest.fixture
def documents(tmp_path: Path) -> ProjectDocuments:
    return ProjectDocuments(FileStore(tmp_path), "1-1")


def _sync(bench: Bench, documents: ProjectDocuments) -> LabelStudioSync:
    sync = LabelStudioSync(documents, bench.refresher)
    sync.load()
    return sync


def _follow(bench: Bench, sync: LabelStudioSync) -> None:
    project, _ = bench.label_studio.project(1)
    sync.follow_served(project, parse_label_space(project.label_config), VERSION, is_quiet=True)


def _work(bench: Bench) -> None:
    while bench.refresher.run_due_job(bench.now):
        pass


def test_new_tasks_survive_a_restarted_reconciler(bench: Bench, documents: ProjectDocuments) -> None:
    first = _sync(bench, documents)
    first.note_task_count(20)
    _follow(bench, first)
    _work(bench)
    _follow(bench, first)
    bench.tasks.append(bench.label_studio.add_task())
    second = _sync(bench, documents)
    second.note_task_count(21)
    _follow(bench, second)
    _work(bench)
    assert bench.pushed == bench.tasks


def test_unfinished_push_is_not_abandoned_for_a_title(bench: Bench, documents: ProjectDocuments) -> None:
    sync = _sync(bench, documents)
    _follow(bench, sync)
    _work(bench)
    _follow(bench, sync)
    bench.tasks.append(bench.label_studio.add_task())
    sync.note_task_count(21)
    _follow(bench, sync)
    sync.remember_setup(None, "http://elsewhere:9090")
    sync.save_setup()
    _follow(bench, sync)
    _work(bench)
    assert bench.pushed == bench.tasks


def test_job_of_a_removed_project_is_dropped(bench: Bench, documents: ProjectDocuments) -> None:
    sync = _sync(bench, documents)
    _follow(bench, sync)
    bench.current = "none"
    bench.label_studio.reads.clear()
    _work(bench)
    assert (sync.progress(1), bench.label_studio.reads) == (None, [])
