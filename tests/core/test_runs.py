"""core.runs: names count up, each document comes back, and a request is the first thing to go."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.domain import LaunchState, Parameters, Project, RunRequest, RunState, RunStatus, Snapshot
from services.core.errors import StoreUnreachable
from services.core.runs import Runs, run_number, version_name
from services.core.store.files import FileStore
from tests.support.store import MemoryStore


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(FileStore(tmp_path))


def _request(run: str) -> RunRequest:
    return RunRequest(run, "5-1", 5, "10 labelled tasks changed", Parameters(), 1.0, ("c1",))


def test_names_count_up_by_number_not_by_letter(runs: Runs) -> None:
    assert runs.next_name(5) == "5-1"
    for run in ("5-2", "5-10", "55-99", "junk"):
        runs.store.write(f"runs/{run}/request.json", b"{}")
    assert runs.names(5) == ["5-2", "5-10"]
    assert runs.next_name(5) == "5-11"


def test_each_document_comes_back(runs: Runs) -> None:
    request, status, launch = _request("5-1"), RunStatus("5-1", RunState.RUNNING), LaunchState("5-1")
    snapshot = Snapshot({"1": "abc"}, "hash", ("A",), 2.0)
    for document in (request, status, launch):
        runs.write(document)
    runs.write_snapshot("5-1", snapshot)
    found = (runs.request("5-1"), runs.status("5-1"), runs.launch_state("5-1"), runs.snapshot("5-1"))
    assert found == (request, status, launch, snapshot)


def test_what_is_not_there_is_none(runs: Runs) -> None:
    assert (runs.request("5-1"), runs.status("5-1"), runs.launch_state("5-1"), runs.snapshot("5-1")) == (
        None,
    ) * 4
    assert runs.log("5-1") == ""


def test_a_log_is_read_whatever_its_bytes(runs: Runs) -> None:
    runs.store.write("runs/5-1/log.txt", b"loss 0.1\n\xff\n")
    assert runs.log("5-1").startswith("loss 0.1")


def test_a_deleted_run_is_gone(runs: Runs) -> None:
    runs.write(_request("5-1"))
    runs.store.write("runs/5-1/checkpoints/1/model.safetensors", b"x")
    runs.delete("5-1")
    assert list(runs.store.keys()) == []


def test_a_half_deleted_run_has_no_request() -> None:
    store = MemoryStore()
    runs = Runs(store)
    runs.write(_request("5-1"))
    for name in ("a.txt", "launch.json", "status.json"):
        store.write(f"runs/5-1/{name}", b"{}")
    store.fail_at, store.error = store.changes + 2, StoreUnreachable("It is away.")
    with pytest.raises(StoreUnreachable):
        runs.delete("5-1")
    assert runs.request("5-1") is None
    assert len(store.data) == 3
    store.fail_at = None
    runs.delete("5-1")
    assert store.data == {}


@pytest.mark.parametrize(
    ("title", "name", "letter", "expected"),
    [
        ("Support – Mails!", None, "", "support-mails-7"),
        ("Ünïcode – Проект 7", None, "", "unicode-7-7"),
        ("日本語", None, "", "project-5-7"),
        ("x" * 99, None, "b", "x" * 40 + "-7b"),
        ("Support", "my-model", "", "my-model-7"),
    ],
)
def test_versions_are_named_after_the_project_or_the_setting(
    title: str, name: str | None, letter: str, expected: str
) -> None:
    project = Project("5-1", 5, title, "", "", "")
    assert version_name(project, name, "5-7", letter) == expected
    assert run_number("5-7") == 7


def test_an_older_status_has_no_memory_and_gpu(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    runs.store.write("runs/1-1/status.json", b'{"run": "1-1", "state": "running", "step": 3, "format": 1}')
    status = runs.status("1-1")
    assert status == RunStatus("1-1", RunState.RUNNING, step=3)
    assert (status.resident_bytes, status.gpu_memory_bytes, status.gpu_utilization) == (None, None, None)
