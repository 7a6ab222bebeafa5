"""The gate's decision on the newest version: read once, and again after a transient error."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from services.adapter.leader.status import LatestDecisionReader
from services.adapter.serving.manifest_cache import ManifestCache
from services.adapter.state.board import LatestDecision
from services.adapter.state.project_state import RunRecord
from services.adapter.training.runs import published_versions
from services.core.domain import Parameters, Published, RunRequest, RunState, RunStatus
from services.core.errors import FitloopError, NotFound, StoreUnreachable, UnknownFormat
from services.core.registry import Registry
from tests.support.controller import ControllerWorld


def record(run: str, *versions: str) -> RunRecord:
    """A run that published these versions."""
    published = tuple(Published(version, True, "Better.") for version in versions)
    request = RunRequest(run, "1-1", 1, "asked for", Parameters(), 100.0)
    return RunRecord(request, status=RunStatus(run, RunState.DONE, published=published))


def test_published_versions_are_newest_first_and_bounded() -> None:
    records = [record("1-1", "a-1"), record("1-2", "a-2", "a-2b"), record("1-3")]
    assert published_versions(records) == ("a-2b", "a-2", "a-1")
    many = [record(f"1-{number}", f"a-{number}") for number in range(50)]
    assert published_versions(many) == tuple(f"a-{number}" for number in range(49, 29, -1))
    assert published_versions([replace(records[0], status=None)]) == ()


def test_manifest_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ControllerWorld()
    world.connect()
    project = world.view.project
    world.publish(project, "a-1", None)
    newest, made = LatestDecisionReader(ManifestCache(world.registry, project.key)), world.now
    assert newest.read([record("1-1")]) is None
    assert newest.read([record("1-1", "a-1")]) == LatestDecision(True, "first", made)
    monkeypatch.setattr(Registry, "manifest", None)
    assert newest.read([record("1-1", "a-1")]) == LatestDecision(True, "first", made)


@pytest.mark.parametrize(
    ("error", "reads"), [(NotFound("gone"), 1), (UnknownFormat("newer"), 1), (StoreUnreachable("away"), 2)]
)
def test_only_transient_errors_are_retried(
    monkeypatch: pytest.MonkeyPatch, error: FitloopError, reads: int
) -> None:
    asked: list[str] = []

    def manifest(_: Registry, __: str, version: str) -> None:
        asked.append(version)
        raise error

    monkeypatch.setattr(Registry, "manifest", manifest)
    newest = LatestDecisionReader(ManifestCache(ControllerWorld().registry, "1-1", count(0, 100).__next__))
    for _ in range(2):
        assert newest.read([record("1-1", "a-1")]) is None
    assert asked == ["a-1"] * reads
