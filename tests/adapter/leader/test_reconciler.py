"""Outcomes of published versions, and of people's commands about them."""

from __future__ import annotations

import pytest

from services.adapter.state.documents import ProjectDocuments, PromotionResult
from services.core.domain import Action
from services.core.errors import CorruptVersion, StoreError
from tests.support.controller import ControllerWorld, smoke_test_error


@pytest.fixture
def world() -> ControllerWorld:
    return ControllerWorld.connected()


@pytest.fixture
def serving() -> ControllerWorld:
    return ControllerWorld.serving()


def test_held_version_is_reported_and_not_served(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2", promote=False)
    assert serving.current == "support-1"
    assert "Gate of support-2" in serving.view.sentence


def test_requests_and_outcomes_name_their_term(serving: ControllerWorld) -> None:
    serving.restart()
    serving.tick()
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2")
    term = serving.registry.serving().term
    request = serving.runs.request("1-2")
    outcome = ProjectDocuments(serving.store, serving.view.project.key).outcome("support-2")
    assert request
    assert outcome
    assert term > 1
    assert (request.term, outcome.term) == (term, term)


def test_both_versions_of_an_active_run_are_decided(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.train("1-2")
    serving.tick(0.5)
    serving.train("1-2", letter="b")
    serving.tick(0.5)
    assert (serving.view.served.current, serving.view.served.previous) == ("support-2b", "support-2")


@pytest.mark.parametrize(("manifest", "fate"), [(None, PromotionResult.REFUSED), (b'{"format": 99}', None)])
def test_project_rests_beside_a_version_without_outcome(
    serving: ControllerWorld, manifest: bytes | None, fate: PromotionResult | None
) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    key = f"projects/{serving.view.project.key}/versions/{serving.train('1-2')}/manifest.json"
    serving.store.delete(key)
    if manifest:
        serving.store.write(key, manifest)
    serving.end("1-2")
    serving.settle()
    outcome = ProjectDocuments(serving.store, serving.view.project.key).outcome("support-2")
    assert (outcome.fate if outcome else None) is fate
    assert serving.tick() >= 5.0, "nothing is due before the next poll"


def test_broken_version_is_refused_and_the_old_one_stays(serving: ControllerWorld) -> None:
    serving.rollout.broken["support-2"] = smoke_test_error("support-2")
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2")
    assert serving.current == "support-1"
    assert serving.view.problem.startswith("support-2 was refused: support-2 gives other answers")
    outcome = ProjectDocuments(serving.store, serving.view.project.key).outcome("support-2")
    assert outcome
    assert outcome.fate is PromotionResult.REFUSED
    serving.rollout.broken.clear()
    serving.restart()
    serving.settle()
    assert serving.current == "support-1"


def test_store_error_while_loading_decides_nothing(serving: ControllerWorld) -> None:
    serving.rollout.broken["support-2"] = StoreError("The disk is slow.")
    serving.label_studio.label_many(6)
    serving.settle()
    serving.train("1-2")
    serving.end("1-2")
    serving.tick(0.5)
    assert serving.view.problem == "The disk is slow."
    serving.rollout.broken.clear()
    serving.settle()
    assert serving.current == "support-2"
    assert serving.view.problem == ""


def test_stale_version_is_held_and_evaluated_again(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.train("1-2", compared_with="support-0")
    serving.end("1-2")
    serving.tick(0.5)
    assert serving.current == "support-1"
    assert "held: support-2 was compared with support-0" in serving.view.sentence
    assert serving.launcher.launched[-1] == "1-3"
    serving.complete_run("1-3")
    assert serving.current == "support-3"
    assert len(serving.requests()) == 3


def test_two_stale_versions_do_not_cause_a_third_run(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2", compared_with="support-0")
    serving.complete_run("1-3", compared_with="support-0")
    serving.restart()
    serving.settle()
    assert len(serving.requests()) == 3


def test_status_names_who_requested_what(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2")
    serving.command(Action.ROLLBACK, asked_by="anna from 10.0.0.7")
    serving.settle()
    why = "rolled back from support-2 by anna from 10.0.0.7"
    assert (serving.current, serving.view.served.why) == ("support-1", why)
    assert f"serving support-1 (pinned: {why})" in serving.view.sentence
    serving.command(Action.PROMOTE, "support-2", asked_by="Zoë from 2001:db8::1")
    serving.settle()
    assert serving.view.served.why == "promoted by Zoë from 2001:db8::1"
    serving.label_studio.label_many(6)
    serving.command(Action.TRAIN, asked_by="anna from 10.0.0.7")
    serving.command(Action.TRAIN, asked_by="Zoë from 2001:db8::1", seed="3")
    serving.settle()
    assert serving.requests()[-1].asked_by == ("anna from 10.0.0.7", "Zoë from 2001:db8::1")
    assert "training support-3 (requested by anna from 10.0.0.7 and 1 more)" in serving.view.sentence


def test_promote_pins_and_unpin_lets_the_gate_decide(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2")
    serving.command(Action.ROLLBACK)
    serving.settle()
    served = serving.view.served
    assert (served.current, served.previous, served.pinned) == ("support-1", "support-2", True)
    assert served.why == "rolled back from support-2 by hand"
    assert "serving support-1 (pinned: rolled back from support-2 by hand)" in serving.view.sentence
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-3")
    assert serving.current == "support-1"
    assert "held because pinned" in serving.view.sentence
    serving.command(Action.PROMOTE, "support-3")
    serving.settle()
    assert (serving.current, serving.view.served.why) == ("support-3", "promoted by hand")
    serving.command(Action.UNPIN)
    serving.tick()
    assert not serving.view.served.pinned


def test_promoting_the_served_version_pins_it(serving: ControllerWorld) -> None:
    serving.command(Action.PROMOTE, "support-1")
    serving.tick()
    assert serving.view.served.pinned
    assert serving.view.served.previous is None


@pytest.mark.parametrize(
    ("action", "version", "sentence"),
    [
        (Action.PROMOTE, "support-9", "promote failed: Project 1 has no version 'support-9'"),
        (Action.PROMOTE, None, "promote failed: Say which version"),
        (Action.ROLLBACK, None, "rollback failed: There is no earlier version"),
        (Action.CANCEL, None, "cancel failed: No run is active."),
    ],
)
def test_impossible_command_is_dropped_with_a_reason(
    serving: ControllerWorld, action: Action, version: str | None, sentence: str
) -> None:
    serving.command(action, version)
    serving.tick()
    assert serving.view.problem.startswith(sentence)
    assert serving.inbox.commands() == []
    assert serving.current == "support-1"


def test_broken_forced_version_leaves_the_old_one(serving: ControllerWorld) -> None:
    serving.publish(serving.view.project, "support-7", None)
    serving.rollout.broken["support-7"] = smoke_test_error("support-7")
    serving.command(Action.PROMOTE, "support-7")
    serving.tick()
    assert (serving.current, serving.view.served.target) == ("support-1", None)
    assert "promote failed: support-7 gives other answers" in serving.view.problem


def test_broken_only_version_is_replaced_by_an_uncompared_one(
    serving: ControllerWorld,
) -> None:
    serving.rollout.broken["support-1"] = CorruptVersion("File 'x' differs.")
    serving.label_studio.label_many(6)
    serving.settle()
    serving.restart()
    serving.tick()
    assert "cannot be served" in serving.view.problem
    serving.complete_run("1-2", compared_with=None)
    assert serving.current == "support-2"
    assert serving.view.problem == ""


def test_uncompared_version_does_not_replace_a_good_one(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.train("1-2", compared_with=None)
    serving.tick(0.5)
    assert serving.current == "support-1"
