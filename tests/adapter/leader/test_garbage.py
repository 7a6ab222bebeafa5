"""`fitloop gc` in the leader: nothing that is served by then is deleted, and a report says what was."""

from __future__ import annotations

import pytest

from services.adapter.leader import garbage
from services.adapter.leader.garbage import take_gc_commands
from services.adapter.ports import RolloutStatus
from services.adapter.state.gc_reports import GC_KEY, GcReport, GcReportFile
from services.core.domain import Action, Command
from services.core.errors import StoreError, UnknownFormat
from services.core.inbox import command_id
from tests.support.controller import ControllerWorld
from tests.support.encoders import publish_head, publish_stub_encoder
from tests.support.store import Killed, MemoryStore


@pytest.fixture
def world() -> ControllerWorld:
    """A project that serves support-1, with old versions old-0 to old-4, of which two are kept as the newest."""
    world = ControllerWorld.serving()
    world.settle()  # the sweep after the run has nothing to delete yet
    for number in range(5):
        world.publish(world.view.project, f"old-{number}", None)
        world.now += 1.0
    world.now += 10.0
    return world


def versions(world: ControllerWorld) -> list[str]:
    return world.registry.version_names(world.view.project.key)


def gc(world: ControllerWorld, project_id: int = 0, **parameters: str) -> str:
    world.now += 0.001
    command = Command(
        command_id(world.now), project_id, Action.GC, None, parameters, world.now, asked_by="ann"
    )
    world.inbox.add_command(command)
    return command.id


def finish(world: ControllerWorld, command: str) -> GcReport:
    for _ in range(20):
        world.tick(0.1)
        if report := GcReportFile(world.store).find(command):
            assert command not in [waiting.id for waiting in world.inbox.commands()]
            return report
    raise AssertionError("there is no report")


@pytest.mark.parametrize("project_id", [0, 1])
def test_old_versions_are_deleted_and_reported(world: ControllerWorld, project_id: int) -> None:
    report = finish(world, gc(world, project_id))
    assert versions(world) == ["old-3", "old-4", "support-1"]
    assert (report.deleted, report.problem, report.asked_by) == (3, "", "ann")
    (stored,) = report.projects
    assert [(one.name, one.kept) for one in stored.leftovers] == [
        ("version old-0", ""), ("version old-1", ""), ("version old-2", ""),
    ]  # fmt: skip
    assert report.freed == sum(one.size for one in stored.leftovers) > 0


def test_a_dry_run_deletes_nothing(world: ControllerWorld) -> None:
    before = dict(world.store.data)
    report = finish(world, gc(world, dry_run="true"))
    assert (report.dry_run, report.deleted) == (True, 3)
    assert {key for key in before if not key.startswith("inbox/")} <= world.store.data.keys()


def test_another_project_is_left_alone(world: ControllerWorld) -> None:
    assert finish(world, gc(world, 2)).projects == ()
    assert len(versions(world)) == 6


def test_a_version_promoted_after_the_survey_survives(world: ControllerWorld) -> None:
    command = gc(world)
    world.tick(0.1)
    assert world.workers.submitted[-1] == "gc", "what may be deleted is known, and nothing is deleted yet"
    world.command(Action.PROMOTE, "old-0")
    world.tick(0.1)
    assert world.current == "old-0"
    report = finish(world, command)
    assert versions(world) == ["old-0", "old-3", "old-4", "support-1"]
    kept = {one.name: one.kept for one in report.projects[0].leftovers}
    assert "it is served" in kept.pop("version old-0")
    assert set(kept.values()) == {""}
    assert report.deleted == 2


def test_a_version_promoted_between_two_deletions_survives(
    world: ControllerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_BATCH", 1)
    command = gc(world)
    world.tick(0.1)
    world.workers.held.add("gc")
    world.tick(0.1)
    assert "old-0" not in versions(world)
    world.command(Action.PROMOTE, "old-2")
    world.tick(0.1)
    world.workers.release()
    finish(world, command)
    assert versions(world) == ["old-2", "old-3", "old-4", "support-1"]
    assert world.current == "old-2"


def test_a_version_being_rolled_out_survives(world: ControllerWorld) -> None:
    world.rollout.slow["old-1"] = RolloutStatus(done=False, reason="1 of 2 predictors hold it")
    world.command(Action.PROMOTE, "old-1")
    world.tick(0.1)
    finish(world, gc(world))
    assert versions(world) == ["old-1", "old-3", "old-4", "support-1"]


def test_a_deleted_version_cannot_be_promoted(world: ControllerWorld) -> None:
    finish(world, gc(world))
    world.command(Action.PROMOTE, "old-0")
    world.settle()
    assert world.current == "support-1"
    assert "has no version 'old-0'" in world.view.problem


def test_commands_are_carried_out_one_after_the_other(world: ControllerWorld) -> None:
    first, second = gc(world), gc(world, dry_run="true")
    assert finish(world, second).deleted == 0
    assert finish(world, first).deleted == 3


def test_other_commands_are_not_delayed(world: ControllerWorld) -> None:
    world.workers.held.add("gc")
    gc(world)
    world.command(Action.PAUSE)
    world.tick(0.1)
    assert world.view.paused


def test_the_next_leader_carries_out_what_was_left(world: ControllerWorld) -> None:
    command = gc(world)
    world.leader_store.fail_at = world.leader_store.changes + 1
    world.leader_store.error, world.leader_store.after = Killed(), True
    with pytest.raises(Killed):
        world.settle()
    world.restart()
    finish(world, command)
    assert versions(world) == ["old-3", "old-4", "support-1"]


def test_a_store_error_ends_it_with_a_report(world: ControllerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_BATCH", 1)
    delete = world.leader_store.delete

    def fails(key: str) -> None:
        if "/old-1/" in key and not key.endswith("manifest.json"):
            raise StoreError("The bucket does not answer.")
        delete(key)

    world.store.write(f"projects/{world.view.project.key}/versions/old-1/model.bin", b"x")
    world.leader_store.delete = fails  # type: ignore[method-assign]
    report = finish(world, gc(world))
    assert report.problem == "The bucket does not answer."
    kept = {one.name: bool(one.kept) for one in report.projects[0].leftovers}
    assert kept == {"version old-0": False, "version old-1": True, "version old-2": True}
    assert report.deleted == 1


def test_unused_encoders_are_retired_then_deleted(
    world: ControllerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "services.adapter.leader.encoders._PASS_SECONDS", 1e9
    )  # the leader does it by itself too
    publish_stub_encoder(world.registry, "ab" * 32, "minilm")
    (dry,) = finish(world, gc(world, dry_run="true")).encoders
    assert dry.kept == "no version needs it: it is deleted a day later, unless a run needs it"
    (retired,) = finish(world, gc(world)).encoders
    assert (retired.name, retired.kept) == ("encoder abababababab (minilm)", dry.kept)
    world.now += 90_000
    report = finish(world, gc(world))
    assert [(one.why, one.kept) for one in report.encoders] == [("no version has needed it for a day", "")]
    assert report.freed >= report.encoders[0].size > 0
    assert list(world.store.keys("encoders/")) == []


def test_an_encoder_that_a_version_names_is_not_reported(world: ControllerWorld) -> None:
    publish_stub_encoder(world.registry, "ab" * 32)
    publish_head(world.registry, "ab" * 32, "head-1", world.view.project.key, created_at=world.now)
    assert finish(world, gc(world)).encoders == ()
    assert finish(world, gc(world, 1)).encoders == ()


def test_one_project_alone_deletes_no_encoder(world: ControllerWorld) -> None:
    publish_stub_encoder(world.registry, "ab" * 32)
    for _ in range(2):
        assert finish(world, gc(world, 1)).encoders == ()
        world.now += 90_000


def test_gc_commands_are_taken_out_of_the_others() -> None:
    train, one, all_projects = (
        Command(name, project, action)
        for name, project, action in (("1", 5, Action.TRAIN), ("2", 5, Action.GC), ("3", 0, Action.GC))
    )
    commands = {5: [train, one], 0: [all_projects]}
    assert take_gc_commands(commands) == [one, all_projects]
    assert commands == {5: [train]}


def test_only_the_last_reports_are_kept() -> None:
    file = GcReportFile(MemoryStore())
    for number in range(12):
        file.add(GcReport(str(number)), term=3)
    assert file.find("1") is None
    assert file.find("2") == GcReport("2")
    assert file.find("11") == GcReport("11")


def test_reports_of_a_newer_release_are_left_alone() -> None:
    store = MemoryStore()
    store.write(GC_KEY, b'{"format": 2}')
    GcReportFile(store).add(GcReport("1"), term=3)
    assert store.data[GC_KEY] == b'{"format": 2}'
    with pytest.raises(UnknownFormat):
        GcReportFile(store).find("1")
    store.write(GC_KEY, b"{")
    GcReportFile(store).add(GcReport("1"), term=3)
    assert GcReportFile(store).find("1")
