"""Rollouts: a version takes effect once all predictors have loaded it, is withdrawn if it is bad, and retried if it is not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.adapter.ports import RolloutStatus
from services.adapter.state.documents import ProjectDocuments, PromotionResult, VersionOutcome
from services.core import documents
from services.core.domain import Action, Served
from services.core.errors import BadConfig
from services.core.serving_table import ServingTableFile
from tests.support.controller import ControllerWorld, smoke_test_error

ON_ITS_WAY = RolloutStatus(done=False, reason="1 of 2 predictors hold it")
BLOCKED = RolloutStatus(done=False, reason="no node has room for a predictor", blocked=True)


@pytest.fixture
def serving() -> ControllerWorld:
    """A project that serves support-1, and has labels for another run."""
    world = ControllerWorld.serving()
    world.label_studio.label_many(6)
    world.settle()
    assert world.current == "support-1"
    return world


def outcome_of(world: ControllerWorld, version: str) -> VersionOutcome | None:
    return ProjectDocuments(world.store, world.view.project.key).outcome(version)


def target_of(world: ControllerWorld) -> str:
    return world.view.served.target or ""


def test_version_is_a_target_until_all_have_loaded_it(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.complete_run("1-2")
    served = serving.view.served
    assert (served.current, served.target) == ("support-1", "support-2")
    assert "rolling out support-2: 1 of 2 predictors hold it" in serving.view.sentence
    assert serving.view.problem == ""
    assert outcome_of(serving, "support-2") is None
    assert serving.tick() == pytest.approx(0.1)
    serving.rollout.slow.clear()
    serving.tick(0.5)
    assert (serving.current, serving.view.served.target) == ("support-2", None)
    found = outcome_of(serving, "support-2")
    assert found
    assert found.fate is PromotionResult.PROMOTED


def test_table_is_written_once_during_a_rollout(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.complete_run("1-2")
    before = serving.registry.serving().generation
    for _ in range(5):
        serving.tick(0.5)
    assert serving.registry.serving().generation == before


def test_blocked_rollout_is_reported_until_it_continues(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = BLOCKED
    serving.complete_run("1-2")
    assert serving.view.problem == (
        "The rollout of support-2 is blocked: no node has room for a predictor. It is retried."
    )
    assert serving.view.served.target == "support-2"
    serving.rollout.slow.clear()
    serving.tick(1.0)
    assert (serving.current, serving.view.problem) == ("support-2", "")


def test_deferred_version_is_no_target_until_retried(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = replace(BLOCKED, deferred=True)
    serving.complete_run("1-2")
    assert target_of(serving) == ""
    assert "The rollout of support-2 is blocked: no node has room" in serving.view.problem
    assert outcome_of(serving, "support-2") is None
    before = serving.registry.serving().generation
    for _ in range(5):
        serving.tick(1.0)
    assert serving.registry.serving().generation == before
    assert serving.rollout.withdrawn == []
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.tick(1.0)
    assert target_of(serving) == "support-2"
    serving.rollout.slow.clear()
    serving.tick(1.0)
    assert (serving.current, serving.view.problem) == ("support-2", "")


def test_deferred_version_yields_to_a_command(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = replace(BLOCKED, deferred=True)
    serving.complete_run("1-2")
    serving.command(Action.PROMOTE, "support-1")
    serving.tick(1.0)
    assert serving.rollout.withdrawn == ["support-2"]
    assert (serving.current, serving.view.served.target) == ("support-1", None)


def test_rollouts_are_polled_in_each_tick(serving: ControllerWorld) -> None:
    serving.rollout.polled.clear()
    serving.tick(1.0)
    assert serving.rollout.polled == [serving.now]


def test_transient_error_blocks_a_rollout(serving: ControllerWorld) -> None:
    serving.rollout.broken["support-2"] = BadConfig("No right to patch the InferenceService.")
    serving.complete_run("1-2")
    assert "No right to patch the InferenceService." in serving.view.problem
    assert outcome_of(serving, "support-2") is None
    serving.rollout.broken.clear()
    serving.tick(1.0)
    assert serving.current == "support-2"


def test_refused_target_is_withdrawn(
    serving: ControllerWorld,
) -> None:
    serving.connect(2)
    serving.label_studio.label_many(6, 2)
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.complete_run("1-2")
    serving.rollout.broken["support-2"] = smoke_test_error("support-2")
    serving.settle()
    assert (serving.current, serving.view.served.target) == ("support-1", None)
    assert serving.view.problem.startswith("support-2 was refused: support-2 gives other answers")
    assert "support-2" in serving.rollout.withdrawn
    other = serving.board.view(2)
    assert other
    assert other.problem == ""
    assert serving.launcher.launched[-1] == "2-1"


def test_flip_time_accounts_for_slow_predictors(serving: ControllerWorld) -> None:
    serving.rollout.flip_seconds = 2.0
    held = serving.rollout.advance

    def slowly(project_key: str, version: str, now: float, encoder: str = "") -> RolloutStatus:
        serving.now += 4.0
        return held(project_key, version, now, encoder)

    serving.rollout.advance = slowly  # type: ignore[method-assign]
    serving.train("1-2")
    serving.tick(0.5)
    assert serving.view.served.since == serving.now + 2.0


def test_all_replicas_switch_at_one_moment(serving: ControllerWorld) -> None:
    serving.rollout.flip_seconds = 2.0
    serving.train("1-2")
    serving.tick(0.5)
    served = serving.view.served
    assert (served.effective_version(serving.now), served.since) == ("support-1", serving.now + 2.0)
    assert serving.view.sentence.startswith("serving support-1")
    serving.tick(1.9)
    assert serving.view.served.effective_version(serving.now) == "support-1"
    serving.tick(0.2)
    assert serving.view.served.effective_version(serving.now) == "support-2"
    assert serving.view.sentence.startswith("serving support-2")


def test_next_rollout_waits_for_the_flip(serving: ControllerWorld) -> None:
    serving.rollout.flip_seconds = 2.0
    serving.train("1-2")
    serving.tick(0.5)
    serving.train("1-2", letter="b")
    serving.tick(0.5)
    assert serving.view.served.effective_version(serving.now) == "support-1"
    assert (serving.current, serving.view.served.target) == ("support-2", "support-2b")
    serving.tick(2.0)
    assert serving.view.served.previous == "support-2"


def test_newer_version_replaces_a_target(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.train("1-2")
    serving.tick(0.5)
    serving.train("1-2", letter="b")
    serving.tick(0.5)
    assert serving.current == "support-2b"
    assert "support-2" in serving.rollout.withdrawn
    found = outcome_of(serving, "support-2")
    assert found
    assert (found.fate, found.sentence) == (
        PromotionResult.HELD,
        "held: support-2b is newer than support-2 and is served already",
    )
    serving.end("1-2")
    serving.settle()
    assert len(serving.requests()) == 2


def test_refused_newer_version_lets_the_older_one_continue(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.train("1-2")
    serving.tick(0.5)
    serving.rollout.broken["support-2b"] = smoke_test_error("support-2b")
    serving.train("1-2", letter="b")
    serving.tick(0.5)
    assert serving.view.served.target == "support-2"
    serving.rollout.slow.clear()
    serving.tick(0.5)
    assert serving.current == "support-2"


def test_version_compared_with_the_target_waits_for_it(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.train("1-2")
    serving.tick(0.5)
    serving.train("1-2", letter="b", compared_with="support-2")
    serving.tick(0.5)
    assert serving.view.served.target == "support-2"
    serving.rollout.slow.clear()
    serving.tick(0.5)
    assert (serving.current, serving.view.served.previous) == ("support-2b", "support-2")


def test_promotion_stays_in_the_inbox_until_decided(serving: ControllerWorld) -> None:
    serving.publish(serving.view.project, "support-7", None)
    serving.rollout.slow["support-7"] = ON_ITS_WAY
    serving.command(Action.PROMOTE, "support-7")
    serving.command(Action.UNPIN)
    serving.tick()
    serving.tick(1.0)
    assert [command.action for command in serving.inbox.commands()] == [Action.PROMOTE, Action.UNPIN]
    serving.rollout.slow.clear()
    serving.tick(1.0)
    assert serving.inbox.commands() == []
    assert (serving.current, serving.view.served.pinned) == ("support-7", False)


def test_command_precedes_the_gate(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.complete_run("1-2")
    serving.publish(serving.view.project, "support-7", None)
    serving.command(Action.PROMOTE, "support-7")
    serving.settle()
    assert serving.current == "support-7"
    assert "held because pinned" in serving.view.sentence


def test_only_the_newest_of_five_promotions_is_handled(serving: ControllerWorld) -> None:
    for number in range(5, 10):
        serving.publish(serving.view.project, f"support-{number}", None)
        serving.command(Action.PROMOTE, f"support-{number}")
    serving.rollout.asked.clear()
    serving.tick()
    assert serving.rollout.asked == ["support-9"]
    assert (serving.current, serving.view.served.previous) == ("support-9", "support-1")
    assert serving.inbox.commands() == []


def test_newer_promotion_replaces_one_being_rolled_out(serving: ControllerWorld) -> None:
    for number in (7, 8):
        serving.publish(serving.view.project, f"support-{number}", None)
    serving.rollout.slow["support-7"] = ON_ITS_WAY
    serving.command(Action.PROMOTE, "support-7")
    serving.tick()
    serving.command(Action.PROMOTE, "support-8")
    serving.tick()
    assert serving.current == "support-8"
    assert serving.inbox.commands() == []
    assert serving.rollout.withdrawn == ["support-7"]


def test_rollback_takes_back_a_promotion_in_progress(
    serving: ControllerWorld,
) -> None:
    serving.publish(serving.view.project, "support-7", None)
    serving.rollout.slow["support-7"] = ON_ITS_WAY
    serving.command(Action.PROMOTE, "support-7")
    serving.tick()
    serving.command(Action.ROLLBACK)
    serving.tick()
    served = serving.view.served
    assert (served.current, served.target, served.pinned) == ("support-1", None, True)
    assert serving.inbox.commands() == []


def test_repeated_rollback_goes_back_once(serving: ControllerWorld) -> None:
    serving.complete_run("1-2")
    serving.rollout.slow["support-1"] = ON_ITS_WAY
    serving.command(Action.ROLLBACK)
    serving.tick()
    serving.command(Action.ROLLBACK)
    serving.tick()
    serving.rollout.slow.clear()
    serving.settle()
    assert (serving.current, serving.view.served.previous) == ("support-1", "support-2")


def test_restart_during_a_rollout_resumes_it(serving: ControllerWorld) -> None:
    serving.rollout.slow = {"support-1": BLOCKED, "support-2": ON_ITS_WAY}
    serving.complete_run("1-2")
    serving.restart()
    serving.tick()
    assert (serving.current, serving.view.served.target) == ("support-1", "support-2")
    serving.rollout.slow.pop("support-2")
    serving.tick(1.0)
    assert serving.current == "support-2"
    assert serving.view.problem == ""


def test_served_version_not_loaded_is_a_problem(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-1"] = BLOCKED
    serving.restart()
    serving.tick()
    assert "The rollout of support-1 is blocked" in serving.view.problem
    assert serving.tick() == 0.5
    serving.rollout.slow.clear()
    serving.tick(1.0)
    assert serving.view.problem == ""


def test_fallback_continues_after_a_restart(serving: ControllerWorld) -> None:
    serving.complete_run("1-2")
    serving.rollout.broken["support-2"] = smoke_test_error("support-2")
    serving.rollout.slow["support-1"] = ON_ITS_WAY
    for _ in range(2):
        serving.restart()
        serving.tick()
        assert (serving.current, serving.view.served.target) == ("support-2", "support-1")
    serving.rollout.slow.clear()
    serving.rollout.flip_seconds = 2.0
    serving.tick(1.0)
    assert serving.view.served.effective_version(serving.now) == "support-1"
    assert "support-1 is served instead" in serving.view.problem


def test_fields_of_a_later_release_survive_a_promotion(serving: ControllerWorld) -> None:
    key = serving.view.project.key
    plain = documents.to_plain(serving.registry.serving())
    plain["generation"] += 1
    plain["policy"] = {"canary": [0.1]}
    plain["projects"][key]["weight"] = 3
    serving.store.write("serving.json", json.dumps(plain).encode())
    serving.restart()
    serving.complete_run("1-2")
    after = json.loads(serving.store.read("serving.json"))
    assert after["policy"] == {"canary": [0.1]}
    assert (after["projects"][key]["current"], after["projects"][key]["weight"]) == ("support-2", 3)


def test_fallback_goes_on_while_predictors_do_not_answer(serving: ControllerWorld) -> None:
    serving.complete_run("1-2")
    serving.restart()
    serving.rollout.broken["support-2"] = smoke_test_error("support-2")
    serving.rollout.slow = {"support-1": ON_ITS_WAY, "support-2": BLOCKED}
    serving.tick()
    assert target_of(serving) == "support-1"
    serving.rollout.broken.clear()
    serving.rollout.withdrawn.clear()
    for _ in range(3):
        serving.tick(0.5)
        assert target_of(serving) == "support-1"
    assert serving.rollout.withdrawn == []
    serving.rollout.slow.pop("support-1")
    serving.tick(0.5)
    assert (serving.current, serving.view.served.previous) == ("support-1", "support-2")
    assert "support-1 is served instead" in serving.view.problem


def test_fallback_ends_if_the_version_answers_after_all(serving: ControllerWorld) -> None:
    serving.complete_run("1-2")
    serving.restart()
    serving.rollout.broken["support-2"] = smoke_test_error("support-2")
    serving.rollout.slow["support-1"] = ON_ITS_WAY
    serving.tick()
    serving.rollout.broken.clear()
    serving.tick(0.5)
    assert (serving.current, target_of(serving), serving.view.problem) == ("support-2", "", "")


def test_unwanted_target_is_withdrawn(serving: ControllerWorld) -> None:
    key = serving.view.project.key
    table = serving.registry.serving()
    left = Served(current="support-1", target="support-0")
    serving.restart()
    ServingTableFile(serving.store).write(type(table)(table.term, table.generation + 1, {key: left}))
    serving.tick()
    assert (serving.current, serving.view.served.target) == ("support-1", None)
    assert serving.rollout.withdrawn == ["support-0"]


def test_version_of_a_newer_release_waits_and_blocks_no_other(serving: ControllerWorld) -> None:
    newer = serving.train("1-2", letter="b")
    key = f"projects/{serving.view.project.key}/versions/{newer}/manifest.json"
    manifest, serving.store.data[key] = serving.store.data[key], b'{"format": 99}'
    serving.complete_run("1-2")
    assert (serving.current, outcome_of(serving, newer)) == ("support-2", None)
    serving.store.data[key] = manifest  # as after an upgrade
    serving.tick(20.0)
    found = outcome_of(serving, newer)
    assert found
    assert found.fate in {PromotionResult.HELD, PromotionResult.STALE}


def test_version_of_the_next_run_follows_the_target_it_was_compared_with(serving: ControllerWorld) -> None:
    serving.rollout.slow["support-2"] = ON_ITS_WAY
    serving.complete_run("1-2")
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-3", compared_with="support-2")
    assert (serving.current, target_of(serving)) == ("support-1", "support-2")
    serving.rollout.slow.clear()
    serving.settle()
    assert (serving.view.served.previous, serving.current) == ("support-2", "support-3")
    assert serving.launcher.launched[-1] == "1-3", "nothing is evaluated again"


def test_promotion_writes_the_table_twice(serving: ControllerWorld) -> None:
    before = serving.registry.serving().generation
    serving.complete_run("1-2")
    assert serving.current == "support-2"
    assert serving.registry.serving().generation == before + 2
