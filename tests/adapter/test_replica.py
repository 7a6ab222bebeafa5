"""Two replicas on one store: one leads, the other follows, and either may take over at any moment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.adapter.follower import Follower
from services.adapter.ports import RolloutStatus
from services.adapter.state.board import Board
from services.adapter.state.documents import Connection, NotLeading, ProjectDocuments
from services.adapter.state.events import EventBuffer
from services.core.domain import Action, Command, Serving
from services.core.errors import StoreError
from services.core.inbox import Inbox, command_id
from services.core.serving_table import ServingTableFile
from tests.support.controller import ControllerWorld
from tests.support.labelstudio import URL
from tests.support.metrics import metric_value
from tests.support.replicas import ReplicaPair, SimulatedReplica
from tests.support.workers import InlineExecutor

TWO_CONTROLS = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text"><Choice value="a"/></Choices>'
    '<Choices name="mood" toName="text"><Choice value="b"/></Choices></View>'
)
ON_ITS_WAY = RolloutStatus(done=False, reason="1 of 2 predictors hold it")


@pytest.fixture
def pair() -> ReplicaPair:
    """Project 1 serves support-1; the first leads."""
    made = ReplicaPair()
    made.connect()
    made.serve()
    return made


def test_follower_shows_the_leaders_board(pair: ReplicaPair) -> None:
    assert pair.second.board.ready.is_set()
    assert pair.second.view == pair.first.view
    pair.world.label_studio.label_many(6)
    pair.advance(10.0, 4)
    assert pair.second.view.active
    assert pair.second.view.sentence == pair.first.view.sentence


def test_both_replicas_switch_at_the_same_moment(pair: ReplicaPair) -> None:
    pair.world.rollout.flip_seconds = 2.0
    pair.world.label_studio.label_many(6)
    pair.advance(10.0, 3)
    pair.world.train("1-2")
    pair.advance(1.0)
    for _ in range(20):
        pair.world.now += 0.2
        pair.second.tick()
        assert pair.first.served_version == pair.second.served_version
    assert pair.second.served_version == "support-2"


async def test_leader_handles_a_command_that_a_follower_stored(pair: ReplicaPair) -> None:
    command = Command(command_id(pair.world.now), 1, Action.PAUSE, created_at=pair.world.now)
    await pair.second.events.submit(command)
    pair.advance(1.0, 2)
    assert pair.first.view.paused
    assert pair.second.view.paused
    assert pair.world.inbox.commands() == []


def test_follower_forwards_events_and_setup_data(pair: ReplicaPair) -> None:
    pair.world.label_studio.label_many(6)
    pair.second.events.notify(1, "ANNOTATION_CREATED")
    pair.second.events.remember_setup(1, {"seed": "3"}, URL)
    pair.second.tick()
    (key,) = pair.world.store.keys("inbox/")
    (notice,) = json.loads(pair.world.store.data[key])["notices"]
    assert notice["actions"] == ["ANNOTATION_CREATED"]
    pair.advance(1.0, 2)
    assert key not in pair.world.store.data
    pair.advance(2.0, 2)
    assert pair.world.runs.names(1) == ["1-1", "1-2"]
    assert pair.world.requests()[-1].parameters.seed == 3


def test_project_known_to_a_follower_only_is_connected() -> None:
    pair = ReplicaPair()
    pair.advance(1.0, 2)
    pair.world.label_studio.add_project()
    pair.second.events.notify(1, "SETUP")
    pair.advance(1.0, 3)
    assert pair.second.view.project.title == "Support"


def test_notice_that_cannot_be_written_is_sent_later(pair: ReplicaPair) -> None:
    before = metric_value("fitloop_hints_total", outcome="stored")
    pair.second.plain_store.error = StoreError("The bucket does not answer.")
    pair.second.plain_store.fail_at = pair.second.plain_store.changes + 1
    pair.second.events.notify(1, "ANNOTATION_CREATED")
    pair.second.tick()
    pair.second.events.notify(1, "TASKS_CREATED")
    pair.advance(0.5)
    pair.second.plain_store.fail_at = None
    pair.world.now += 1.0
    pair.second.tick()
    (notice,) = Inbox(pair.world.store).read().notices
    assert notice.actions == ("ANNOTATION_CREATED", "TASKS_CREATED")
    assert metric_value("fitloop_hints_total", outcome="stored") == before + 1


def test_silent_leader_is_reported(pair: ReplicaPair) -> None:
    pair.first.leadership.is_leader = False
    for _ in range(12):
        pair.world.now += 1.0
        pair.second.tick()
    assert "The leading adapter has not reported for 10 s" in pair.second.view.problem
    assert pair.second.served_version == "support-1"
    pair.second.leadership.is_leader = True
    pair.advance(1.0, 2)
    assert pair.second.view.problem == ""


def test_last_state_is_shown_while_the_store_is_down(
    pair: ReplicaPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(key: str, mark: str = "") -> None:
        raise StoreError(f"{key} cannot be read.")

    monkeypatch.setattr(pair.second.plain_store, "read_changed", fails)
    for _ in range(3):
        pair.second.tick()
    assert pair.second.served_version == "support-1"


def test_store_problem_is_logged_once_with_backoff(pair: ReplicaPair) -> None:
    replica = pair.first.replica
    with capture_logs() as lines:
        waits = [replica._store_failed("It is away.") for _ in range(6)]
        assert pair.first.board.store_problem == "It is away.", "the page says so too"
        replica._store_worked()
        assert pair.first.board.store_problem == ""
        waits.append(replica._store_failed("It is away."))
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 0.5]
    assert [line["event"] for line in lines] == [
        "store_unavailable",
        "store_available",
        "store_unavailable",
    ]


def test_board_of_a_newer_release_is_ignored(pair: ReplicaPair) -> None:
    pair.world.store.data["board.json"] = b'{"format": 99}'
    late = SimulatedReplica(pair.world)
    late.tick()
    assert late.served_version == "support-1"
    assert late.view.space


def test_follower_without_a_board_uses_the_settings_control(pair: ReplicaPair) -> None:
    world = pair.world
    del world.store.data["board.json"]
    project = replace(world.registry.projects()[0], label_config=TWO_CONTROLS)
    world.registry.write_project(project)
    follower = build_follower(world)
    follower.tick(world.now)
    assert asked_by(follower) == "mood"
    ProjectDocuments(world.store, project.key).write_connection(Connection(overrides={"control": "label"}))
    follower = build_follower(world)
    follower.tick(world.now)
    assert asked_by(follower) == "label"


def build_follower(world: ControllerWorld) -> Follower:
    """Build a follower with settings that name the control `mood` for project 1."""
    events = EventBuffer(world.store, lambda: None)
    return Follower(world.store, Board(), events, {1: "mood"}.get, executor=InlineExecutor())


def asked_by(follower: Follower) -> str:
    view = follower.board.view(1)
    assert view is not None
    assert view.space is not None
    return view.space.from_name


def test_follower_is_ready_before_any_leader() -> None:
    alone = SimulatedReplica(ControllerWorld())
    alone.tick()
    assert alone.board.ready.is_set()
    assert alone.board.views == {}


def test_takeover_during_a_rollout_finishes_it_once(pair: ReplicaPair) -> None:
    pair.world.rollout.slow["support-2"] = ON_ITS_WAY
    pair.world.label_studio.label_many(6)
    pair.advance(10.0, 3)
    pair.world.train("1-2")
    pair.world.end("1-2")
    pair.advance(1.0, 2)
    assert pair.first.view.served.target == "support-2"
    term = pair.world.registry.serving().term
    pair.hand_over()
    pair.advance(1.0, 2)
    pair.world.rollout.slow.clear()
    pair.advance(1.0, 3)
    assert pair.first.served_version == pair.second.served_version == "support-2"
    table = pair.world.registry.serving()
    assert table.term == term + 1
    (served,) = table.projects.values()
    assert (served.previous, served.target) == ("support-1", None)
    assert pair.first.replica.controller is None


def test_next_leader_continues_a_run(pair: ReplicaPair) -> None:
    pair.world.label_studio.label_many(6)
    pair.advance(10.0, 3)
    pair.hand_over()
    pair.advance(10.0, 3)
    assert pair.second.launcher.launched == ["1-2"]
    assert pair.world.runs.names(1) == ["1-1", "1-2"]


def test_lead_may_return(pair: ReplicaPair) -> None:
    for replica in (pair.second, pair.first, pair.second):
        pair.first.leadership.is_leader = pair.second.leadership.is_leader = False
        pair.advance(1.0)
        replica.leadership.is_leader = True
        pair.advance(1.0, 2)
        assert replica.replica.controller
    assert pair.first.view == pair.second.view


def test_late_write_of_an_older_term_is_repaired(pair: ReplicaPair) -> None:
    before = pair.world.registry.serving()
    pair.hand_over()
    pair.advance(1.0, 2)
    (key,) = before.projects
    late = Serving(
        before.term, before.generation + 5, {key: replace(before.projects[key], current="support-9")}
    )
    ServingTableFile(pair.world.store).write(late)
    pair.first.tick()
    assert pair.first.served_version == "support-1"
    pair.advance(4.0)
    written = ServingTableFile(pair.world.store).current()
    assert written
    assert written.term == before.term + 1
    assert written.projects[key].current == "support-1"


def test_broken_table_is_written_again(pair: ReplicaPair) -> None:
    pair.world.store.data["serving.json"] = b"{"
    pair.advance(4.0)
    written = ServingTableFile(pair.world.store).current()
    assert written
    assert written == pair.world.registry.serving()


def test_stale_leader_starts_a_new_term(pair: ReplicaPair) -> None:
    table = pair.world.registry.serving()
    ServingTableFile(pair.world.store).write(replace(table, term=table.term + 7))
    pair.advance(4.0)
    assert pair.first.replica.controller is None
    pair.advance(1.0)
    assert pair.world.registry.serving().term == table.term + 8
    assert pair.first.served_version == "support-1"


def test_nothing_is_written_with_too_short_a_lead(pair: ReplicaPair) -> None:
    pair.first.leadership.certain_seconds = 3.0  # a write may take 5 s
    before = dict(pair.world.store.data)
    pair.world.label_studio.label_many(6)
    pair.first.events.notify(1, "ANNOTATION_CREATED")
    pair.world.now += 20.0
    pair.first.tick()
    changed = {key for key, data in pair.world.store.data.items() if before.get(key) != data}
    assert all(key.startswith("inbox/") for key in changed)
    with pytest.raises(NotLeading):
        pair.first.fenced_store.write("a", b"")
    with pytest.raises(NotLeading):
        pair.first.fenced_store.delete("serving.json")
    with pytest.raises(NotLeading):
        pair.first.fenced_store.upload(Path("a"), "a")
    term = pair.world.registry.serving().term
    pair.first.leadership.certain_seconds = 15.0
    pair.advance(10.0, 3)
    assert pair.world.runs.names(1) == ["1-1", "1-2"]
    assert pair.world.registry.serving().term == term  # the lead was not lost


def test_stop_gives_up_the_lead(pair: ReplicaPair) -> None:
    pair.first.replica.stop()
    assert not pair.first.leadership.is_leader
    assert pair.first.replica.controller is None


def test_deleted_project_is_not_served_but_a_hidden_one_is(
    pair: ReplicaPair,
) -> None:
    del pair.world.label_studio.labels[1]
    pair.advance(20.0, 4)
    assert pair.second.board.views == {}
    assert [served.current for served in pair.world.registry.serving().projects.values()] == ["support-1"]
    pair.second.events.notify(1, "PROJECT_DELETED")
    pair.advance(20.0, 4)
    assert pair.world.registry.serving().projects == {}
    assert [key for key in pair.world.store.data if key.endswith("support-1/manifest.json")]


def test_notices_of_two_followers_are_merged(pair: ReplicaPair) -> None:
    third = SimulatedReplica(pair.world)
    third.tick()
    pair.second.events.remember_setup(1, {"seed": "3"}, URL)
    third.events.notify(1, "TASKS_CREATED")
    pair.second.tick()
    third.tick()
    (notice,) = Inbox(pair.world.store).read().notices
    assert (notice.actions, notice.overrides, notice.seen_url) == (("TASKS_CREATED",), {"seed": "3"}, URL)


def test_clock_set_back_delays_nothing(pair: ReplicaPair) -> None:
    pair.world.now -= 3600.0
    pair.advance(1.0, 3)
    assert pair.first.replica.controller
    assert abs(json.loads(pair.world.store.data["board.json"])["written_at"] - pair.world.now) < 10.0
    pair.world.label_studio.label_many(6)
    pair.advance(10.0, 3)
    assert pair.world.runs.names(1) == ["1-1", "1-2"]
