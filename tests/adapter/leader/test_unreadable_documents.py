"""A document that is broken or of a newer release concerns its project alone, and is named in that project's problem."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.adapter.follower import Follower
from services.adapter.state.board import Board
from services.adapter.state.events import EventBuffer
from services.core import documents
from services.core.domain import Action, Command, Project
from services.core.errors import UnknownFormat, UnreadableDocument
from services.core.registry import Registry
from services.core.runs import Runs
from tests.support.controller import ControllerWorld, build_settings
from tests.support.store import MemoryStore
from tests.support.workers import InlineExecutor

NEWER = b'{"format": 99}'
BROKEN = b'{"format": 1, "projects": '
WRONG = b'["something else"]'
DEEP = b"[" * 100_000
CONTENTS = pytest.mark.parametrize(
    "content", [NEWER, BROKEN, WRONG, DEEP], ids=["newer", "broken", "wrong", "deep"]
)


def two_projects() -> ControllerWorld:
    """Project 1 serves support-1 and has ended run 1-1; project 2 is connected."""
    world = ControllerWorld(build_settings(max_active_runs=2))
    world.connect(1)
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-1")
    world.connect(2)
    world.settle()
    return world


def go_on_without(world: ControllerWorld, key: str, content: bytes) -> None:
    """Damage a document while no adapter runs, start one, and check that project 2 is trained and served."""
    world.store.data[key] = content
    world.restart()
    world.label_studio.label_many(6, 2)
    world.settle()
    assert world.board.ready.is_set()
    assert world.launcher.launched[-1] == "2-1"
    version = world.train("2-1")
    world.end("2-1")
    world.settle()
    other = world.board.view(2)
    assert other
    assert (other.served.current, other.problem) == (version, "")


def key_of(world: ControllerWorld, name: str) -> str:
    return f"projects/{world.view.project.key}/{name}"


@CONTENTS
@pytest.mark.parametrize(
    "name",
    ["connection.json", "state.json", "verdicts/support-1.json", "runs/1-1/request.json", "runs/1-1/launch.json", "runs/1-1/status.json"],
)  # fmt: skip
def test_a_document_of_one_project_stops_no_other(name: str, content: bytes) -> None:
    world = two_projects()
    key = name if name.startswith("runs/") else key_of(world, name)
    if name not in {
        "connection.json",
        "state.json",
    }:  # state.json has what these say, unless an earlier release led
        del world.store.data[key_of(world, "state.json")]
    go_on_without(world, key, content)
    assert key in world.view.problem
    assert world.current == "support-1"


@CONTENTS
def test_a_manifest_of_one_project_stops_no_other(content: bytes) -> None:
    world = two_projects()
    key = key_of(world, "versions/support-1/manifest.json")
    go_on_without(world, key, content)
    assert world.current == "support-1"
    assert [manifest.version for manifest in world.registry.manifests(world.view.project.key)] == []


@CONTENTS
def test_a_mended_document_ends_the_problem(content: bytes) -> None:
    world = two_projects()
    key = key_of(world, "connection.json")
    good = world.store.data[key]
    go_on_without(world, key, content)
    world.store.data[key] = good
    world.settle(8)
    assert world.view.problem == ""


def test_a_newer_project_document_stops_no_other() -> None:
    world = two_projects()
    key = key_of(world, "project.json")
    go_on_without(world, key, NEWER)
    assert f"{key} has format 99" in world.view.problem
    assert world.current == "support-1"
    assert world.store.data[key] == NEWER


@pytest.mark.parametrize("content", [BROKEN, WRONG, DEEP], ids=["broken", "wrong", "deep"])
def test_a_broken_project_document_is_read_from_label_studio_again(content: bytes) -> None:
    world = two_projects()
    good = world.store.data[key := key_of(world, "project.json")]
    go_on_without(world, key, content)
    assert world.store.data[key] == good
    assert (world.current, world.view.problem) == ("support-1", "")


@CONTENTS
@pytest.mark.parametrize("key", ["inbox/cmd-1.json", "inbox/hint-1.json", "board.json"])
def test_a_shared_document_stops_no_project(key: str, content: bytes) -> None:
    world = two_projects()
    go_on_without(world, key, content)
    assert world.view.problem == ""


def test_a_command_with_an_unknown_action_stays_and_stops_nothing() -> None:
    """A leader of an earlier release does not know all commands of this one."""
    world = two_projects()
    command = documents.dump(Command("1", 1, Action.PAUSE)).replace(b'"pause"', b'"repaint"')
    go_on_without(world, "inbox/cmd-1.json", command)
    assert world.store.data["inbox/cmd-1.json"] == command
    world.command(Action.PAUSE)
    world.tick(1.0)
    assert world.view.paused


@CONTENTS
def test_the_registry_skips_unreadable_projects(content: bytes) -> None:
    registry = Registry(MemoryStore())
    readable = Project("2-2", 2, "Support", "<View/>", "", "2026")
    registry.write_project(readable)
    registry.store.write("projects/1-1/project.json", content)
    assert registry.projects() == [readable]


@CONTENTS
@pytest.mark.parametrize(
    ("name", "read"), [("request", Runs.request), ("status", Runs.status), ("launch", Runs.launch_state)]
)
def test_an_unreadable_document_of_a_run_is_named(
    name: str, read: Callable[[Runs, str], object], content: bytes
) -> None:
    runs = Runs(MemoryStore())
    runs.store.write(f"runs/1-1/{name}.json", content)
    with pytest.raises(UnreadableDocument, match=f"^runs/1-1/{name}.json .*") as raised:
        read(runs, "1-1")
    assert isinstance(raised.value, UnknownFormat) == (content == NEWER)


@CONTENTS
@pytest.mark.parametrize("name", ["connection.json", "project.json"])
def test_a_follower_without_a_board_shows_the_others(name: str, content: bytes) -> None:
    store = MemoryStore()
    for project_id in (1, 2):
        Registry(store).write_project(
            Project(f"{project_id}-1", project_id, "Support", "<View/>", "", "2026")
        )
    store.write(f"projects/1-1/{name}", content)
    board = Board()
    Follower(store, board, EventBuffer(store, lambda: None), executor=InlineExecutor()).tick(1.0)
    assert board.ready.is_set()
    assert board.store_problem == ""
    assert 2 in board.views
    if name == "connection.json":
        assert "projects/1-1/connection.json" in board.views[1].problem
