"""Ports in one process: a lock elects the leader, and requests and loads are counted as in a predictor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapter.metrics import CountedInference
from services.adapter.ports import RolloutStatus
from services.core.errors import (
    BadConfig,
    CorruptVersion,
    FitloopError,
    Locked,
    ModelClassError,
    StoreUnreachable,
)
from services.core.registry import Registry
from services.core.settings import ServingSettings
from services.core.store.files import FileStore
from services.embedded.in_process import FileLeadership, LocalRollout, export_versions
from services.predictor import metrics
from services.predictor.inference import VersionInference
from tests.support.inference import local_inference
from tests.support.metrics import metric_growth, metric_value
from tests.support.model_classes import python_path
from tests.support.own_versions import publish_own_version, write_own_project
from tests.support.versions import KEY, build_tiny_version, corrupt_file, publish_versions
from tests.support.workers import InlineWorkers

HOLDER = """
import sys
from pathlib import Path
from services.embedded.in_process import FileLeadership
FileLeadership(Path(sys.argv[1])).start(lambda: None)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Versions v-1 and v-2."""
    found = Registry(FileStore(tmp_path / "store"))
    publish_versions(found, build_tiny_version(tmp_path), "v-1", "v-2")
    return found


@pytest.fixture
def local(registry: Registry) -> Iterator[VersionInference]:
    before = metrics._versions.loaded, metrics._versions.refused
    found = local_inference(registry, ServingSettings(workers=1))
    yield found
    found.close()
    metrics.export_versions(*before)


async def test_requests_are_counted_by_outcome(registry: Registry, local: VersionInference) -> None:
    export_versions(local)
    inference = CountedInference(local, metrics.observe_request)
    grown = {
        outcome: metric_growth("fitloop_predictor_requests_total", outcome=outcome)
        for outcome in metrics.OUTCOMES
    }
    seconds = metric_growth("fitloop_predictor_request_seconds_count")
    corrupt_file(registry, "v-2")
    assert await inference.ready()
    assert (await inference.scores(KEY, "v-1", ["a text"])).probabilities.shape == (1, 2)
    for version in ("v-2", "v-9"):
        with pytest.raises(FitloopError):
            await inference.scores(KEY, version, ["a text"])
    found = {outcome: count() for outcome, count in grown.items() if count()}
    assert found == {"answered": 1, "refused": 1, "unknown": 1}
    assert seconds() == 3
    assert metric_value("fitloop_predictor_version_info", project="5", version="v-1") == 1
    assert metric_value("fitloop_predictor_versions", state="refused") == 2


LOADING = RolloutStatus(done=False, reason="it is being loaded")


def test_rollout_loads_are_counted_once(registry: Registry, local: VersionInference) -> None:
    rollout = LocalRollout(local, InlineWorkers())
    assert rollout.flip_seconds == 0.0
    grown = {
        outcome: metric_growth("fitloop_predictor_loads_total", outcome=outcome)
        for outcome in ("loaded", "refused", "failed")
    }
    corrupt_file(registry, "v-2")
    assert rollout.advance(KEY, "v-1", 0.0) == rollout.advance(KEY, "v-2", 0.0) == LOADING
    for _ in range(3):
        assert rollout.advance(KEY, "v-1", 0.0).done
    with pytest.raises(CorruptVersion):
        rollout.advance(KEY, "v-2", 0.0)
    assert {outcome: count() for outcome, count in grown.items()} == {"loaded": 1, "refused": 1, "failed": 0}


def test_load_that_takes_long_delays_nothing(local: VersionInference) -> None:
    workers = InlineWorkers()
    workers.held.add(KEY)
    rollout = LocalRollout(local, workers)
    assert rollout.check(KEY, "v-1") == rollout.check(KEY, "v-2") == rollout.check(KEY, "v-1") == LOADING
    assert workers.submitted == [(KEY, "v-1"), (KEY, "v-2")]
    workers.release()
    assert rollout.check(KEY, "v-1").done
    assert rollout.check(KEY, "v-2").done


def test_bad_version_stays_bad_until_its_files_are_restored(
    registry: Registry, local: VersionInference
) -> None:
    now, workers = 100.0, InlineWorkers()
    rollout = LocalRollout(local, workers, lambda: now)
    whole = corrupt_file(registry, "v-2")
    assert rollout.check(KEY, "v-2") == LOADING
    for _ in range(3):
        with pytest.raises(CorruptVersion):
            rollout.check(KEY, "v-2")
    assert len(workers.submitted) == 1
    registry.store.write(f"projects/{KEY}/versions/v-2/ct2/model.bin", whole)
    now += 61
    with pytest.raises(CorruptVersion):
        rollout.check(KEY, "v-2")
    assert rollout.check(KEY, "v-2").done


def test_version_that_cannot_be_read_is_retried(
    registry: Registry, local: VersionInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(key: str) -> bytes:
        raise StoreUnreachable(f"No answer for {key}.")

    rollout = LocalRollout(local, InlineWorkers())
    with monkeypatch.context() as patched:
        patched.setattr(registry.store, "read", fail)
        assert rollout.advance(KEY, "v-1", 0.0) == LOADING
        with pytest.raises(StoreUnreachable):
            rollout.advance(KEY, "v-1", 0.0)
    assert rollout.advance(KEY, "v-1", 0.0) == LOADING
    assert rollout.advance(KEY, "v-1", 0.0).done


def test_withdrawn_version_is_loaded_again(registry: Registry, local: VersionInference) -> None:
    rollout = LocalRollout(local, InlineWorkers())
    whole = corrupt_file(registry, "v-2")
    rollout.advance(KEY, "v-2", 0.0)
    rollout.withdraw(KEY, "v-2")
    registry.store.write(f"projects/{KEY}/versions/v-2/ct2/model.bin", whole)
    assert rollout.advance(KEY, "v-2", 0.0) == LOADING, "what the first load found is forgotten"
    assert rollout.advance(KEY, "v-2", 0.0).done


def test_second_process_learns_the_lock_holder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        ours = FileLeadership(folder)
        with pytest.raises(Locked, match=rf"process {holder.pid}\) is using {folder}: .*--data"):
            ours.start(lambda: None)
        assert not ours.leads()
        holder.send_signal(signal.SIGKILL)
    ours.start(lambda: None)
    assert (folder / "lock").read_text() == f"{os.getpid()}\n"
    ours.stop()


def test_lock_holder_leads_until_stop(tmp_path: Path) -> None:
    changes: list[bool] = []
    leadership = FileLeadership(tmp_path)
    for _ in range(2):
        leadership.start(lambda: changes.append(leadership.leads(3600)))
        leadership.start(lambda: None)  # a second time changes nothing
        leadership.stop()
        leadership.stop()
        assert not leadership.leads()
    assert changes == [True, True]


def test_unusable_folder_is_bad_config(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match="cannot be used: Not a directory"):
        FileLeadership(tmp_path / "file" / "data").start(lambda: None)


def test_a_class_that_fails_to_load_is_refused(
    registry: Registry, local: VersionInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path())
    write_own_project(registry, key="6-1")
    publish_own_version(registry, "w-1", "own_models:Keeper", key="6-1")
    publish_own_version(registry, "w-2", "own_models:BrokenSetup", key="6-1")
    rollout = LocalRollout(local, InlineWorkers())
    assert rollout.advance("6-1", "w-1", 0.0) == rollout.advance("6-1", "w-2", 0.0) == LOADING
    assert rollout.advance("6-1", "w-1", 0.0).done
    with pytest.raises(ModelClassError, match="ValueError: there is no model file"):
        rollout.advance("6-1", "w-2", 0.0)
