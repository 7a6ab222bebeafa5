"""The processes of served versions: loaded, replaced when they die, bounded in number, ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import ModelClassError, Overloaded
from services.core.registry import Registry
from services.core.store.files import FileStore
from services.mlbackend.calls import PredictCall
from services.mlbackend.process import WorkerProcess
from services.mlbackend.workers import ClassWorkers, NoPlace
from tests.support.metrics import metric_growth
from tests.support.model_classes import SETTINGS, SPANS, model_class, python_path, start_training, tasks_of
from tests.support.own_versions import OWN_KEY, publish_own_version, write_own_project
from tests.support.waiting import eventually

Build = Callable[..., ClassWorkers]


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path())


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    found = Registry(FileStore(tmp_path / "store"))
    write_own_project(found)
    return found


@pytest.fixture
def build(registry: Registry) -> Iterator[Build]:
    """Return a builder of workers with at most `limit` processes."""
    made: list[ClassWorkers] = []

    def make(limit: int = 4, **settings: Any) -> ClassWorkers:
        made.append(ClassWorkers(registry, replace(SETTINGS, **settings), limit))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


def ask(workers: ClassWorkers, version: str, *texts: str, key: str = OWN_KEY) -> list[Any]:
    """Return the values that the class answers for these texts."""
    answers = workers.predict((key, version), PredictCall(tasks_of(*texts))).result()
    return [found[0]["result"][0]["value"] if found else None for found in answers.predictions]


def keeper_version(registry: Registry, version: str, label: str, folder: Path) -> None:
    """Publish a version of a class that keeps this label by `self.set`."""
    folder.mkdir()
    with WorkerProcess(model_class("Keeper"), folder, SETTINGS) as worker:
        worker.fit("START_TRAINING", start_training(), {"label": label})
    publish_own_version(registry, version, "own_models:Keeper", {"cache.db": folder / "cache.db"})


def test_two_versions_and_a_rollback(registry: Registry, build: Build, tmp_path: Path) -> None:
    keeper_version(registry, "v-1", "sport", tmp_path / "first")
    keeper_version(registry, "v-2", "politics", tmp_path / "second")
    workers = build()
    for version, label in (("v-1", "sport"), ("v-2", "politics"), ("v-1", "sport")):
        workers.prepare((OWN_KEY, version))
        assert ask(workers, version, "a") == [{"choices": [label]}]
    assert workers.loaded() == [(OWN_KEY, "v-2"), (OWN_KEY, "v-1")]
    manifest = registry.manifest(OWN_KEY, "v-1")
    registry.verified(manifest, "model/cache.db")  # raises if the class had not written into a copy


def test_two_projects_with_two_classes(registry: Registry, build: Build) -> None:
    write_own_project(registry, SPANS, "6-1")
    publish_own_version(registry, "v-1", "own_models:Keeper")
    publish_own_version(registry, "w-1", "own_models:Spans", key="6-1")
    workers = build()
    assert ask(workers, "v-1", "a") == [{"choices": ["sport"]}]
    (span,) = ask(workers, "w-1", "Ada wrote", key="6-1")
    assert (span["text"], span["labels"]) == ("Ada", ["PER"])


def test_a_killed_process_is_replaced_under_load(registry: Registry, build: Build) -> None:
    publish_own_version(registry, "v-1", "own_models:Keeper")
    workers, failures, answered = build(), list[Exception](), list[Any]()
    workers.prepare((OWN_KEY, "v-1"))
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                answered.extend(ask(workers, "v-1", "a"))
            except ModelClassError as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    crashes = metric_growth("fitloop_model_worker_ends_total", reason="crash")
    try:
        (pid,) = eventually(workers._pids)
        os.kill(pid, signal.SIGKILL)
        before = len(answered)
        eventually(lambda: len(answered) > before + 3 and workers._pids() not in ([], [pid]))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert crashes() == 1
    assert len(failures) <= 3, "only calls that were in flight fail"
    assert all("was ended by SIGKILL" in str(error) for error in failures)
    assert workers.loaded() == [(OWN_KEY, "v-1")]


def test_a_process_that_is_killed_while_idle_is_replaced(registry: Registry, build: Build) -> None:
    publish_own_version(registry, "v-1", "own_models:Keeper")
    workers = build()
    workers.prepare((OWN_KEY, "v-1"))
    crashes = metric_growth("fitloop_model_worker_ends_total", reason="crash")
    (pid,) = workers._pids()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: workers._pids() == [])
    assert workers.loaded() == [(OWN_KEY, "v-1")]
    assert ask(workers, "v-1", "a") == [{"choices": ["sport"]}]
    assert crashes() == 1


def test_a_hanging_predict_does_not_hold_up_another_version(registry: Registry, build: Build) -> None:
    publish_own_version(registry, "v-1", "own_models:Fragile")
    publish_own_version(registry, "w-1", "own_models:Keeper")
    workers = build(predict_seconds=10)
    for version in ("v-1", "w-1"):
        workers.prepare((OWN_KEY, version))
    deadlines = metric_growth("fitloop_model_worker_ends_total", reason="deadline")
    hanging = workers.predict((OWN_KEY, "v-1"), PredictCall(tasks_of("hang")))
    assert ask(workers, "w-1", "a") == [{"choices": ["sport"]}]
    assert not hanging.done()
    with pytest.raises(ModelClassError, match="did not answer within 10 s"):
        hanging.result(120)
    eventually(lambda: ask(workers, "v-1", "a") == [{"choices": ["sport"]}])
    assert deadlines() == 1


def test_one_bad_task_does_not_spoil_the_others(registry: Registry, build: Build) -> None:
    publish_own_version(registry, "v-1", "own_models:Fragile")
    workers = build()
    assert ask(workers, "v-1", "a", "raise", "b") == [{"choices": ["sport"]}, None, {"choices": ["sport"]}]
    with pytest.raises(ModelClassError, match="ValueError: no text like that"):
        ask(workers, "v-1", "raise", "raise")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BrokenSetup", "ValueError: there is no model file"),
        ("NoSuchClass", "cannot be imported: AttributeError"),
        ("Unruly", "AttributeError: 'Unruly' object has no attribute 'a text of a few words'"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_refused(
    registry: Registry, build: Build, name: str, message: str
) -> None:
    publish_own_version(registry, "v-1", f"own_models:{name}")
    workers, failed = build(), metric_growth("fitloop_model_worker_starts_total", outcome="failed")
    with pytest.raises(ModelClassError, match=message):
        workers.prepare((OWN_KEY, "v-1"))
    assert workers.loaded() == []
    assert list(workers.refusals()) == [(OWN_KEY, "v-1")]
    with pytest.raises(ModelClassError, match=message):
        ask(workers, "v-1", "a")
    assert failed() == 1, "requests do not start it again and again"


def test_a_full_disk_is_a_refusal_too(
    registry: Registry, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_own_version(registry, "v-1", "own_models:Keeper", {"a.txt": "a"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.mlbackend.folders.shutil.copyfile", full)
    workers = build()
    with pytest.raises(ModelClassError, match=r"v-1 could not be started: No space left on device\."):
        workers.prepare((OWN_KEY, "v-1"))
    assert list(workers.refusals()) == [(OWN_KEY, "v-1")]


def test_the_number_of_processes_is_bounded(registry: Registry, build: Build) -> None:
    for key in ("5-1", "6-1", "7-1"):
        write_own_project(registry, key=key)
        publish_own_version(registry, "v-1", "own_models:Keeper", key=key)
    workers = build(limit=2)
    workers.prepare(("5-1", "v-1"))
    workers.prepare(("6-1", "v-1"))
    with pytest.raises(NoPlace, match="2 processes of model classes run, the most of FITLOOP_MODEL_WORKERS"):
        workers.prepare(("7-1", "v-1"), may_evict=False)
    assert ask(workers, "v-1", "a", key="5-1")
    workers.prepare(("7-1", "v-1"))
    assert workers.loaded() == [("5-1", "v-1"), ("7-1", "v-1")]
    assert len(workers._pids()) == 2


def test_eviction_and_close_end_the_process(registry: Registry, build: Build) -> None:
    publish_own_version(registry, "v-1", "own_models:Fragile")
    workers = build()
    workers.prepare((OWN_KEY, "v-1"))
    (pid,) = workers._pids()
    workers.evict((OWN_KEY, "v-1"))
    assert not Path(f"/proc/{pid}").exists()
    assert workers.loaded() == []
    hanging = workers.predict((OWN_KEY, "v-1"), PredictCall(tasks_of("hang")))
    waiting = workers.predict((OWN_KEY, "v-1"), PredictCall(tasks_of("a")))
    eventually(hanging.running)
    (pid,) = eventually(workers._pids)
    workers.close()
    assert not Path(f"/proc/{pid}").exists()
    assert waiting.cancelled() or isinstance(waiting.exception(), Overloaded)
    assert isinstance(hanging.exception(), (ModelClassError, Overloaded))
