"""/api/projects: what people see of a project, and what they may ask of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.adapter.routes.api import PROJECT_ACTIONS
from services.adapter.state.board import Figures
from services.adapter.state.encoder_status import EncoderStatus, EncoderStatusWriter
from services.adapter.state.estimates_file import EstimateScores, EstimatesFile
from services.core.domain import (
    Action,
    EstimateErrors,
    EstimateScore,
    RunState,
    RunStatus,
    Selection,
    Served,
    Uncounted,
)
from services.core.errors import Overloaded, StoreError
from services.core.settings import AuthSettings
from tests.support.app import AppWorld
from tests.support.encoders import publish_head, publish_stub_encoder
from tests.support.manifests import build_manifest


@pytest.fixture
def published(world: AppWorld, tmp_path: Path) -> AppWorld:
    """Project 5 serves v-2, pinned; v-1 was before."""
    (tmp_path / "made").mkdir()
    view = world.serve(served=Served("v-2", "v-1", pinned=True))
    for age, version in enumerate(("v-1", "v-2")):
        made = build_manifest(version, view.project.key, ("Positive", "Negative"))
        world.registry.publish(tmp_path / "made", replace(made, created_at=float(age)))
    return world


async def test_all_projects_by_id(world: AppWorld) -> None:
    view = world.serve(labelled=12, sentence="waiting: 6 of 10 labels changed")
    world.board.put(replace(view, project=replace(view.project, id=2, title="First")))
    rows = (await world.client.get("/api/projects")).json()["projects"]
    assert [row["id"] for row in rows] == [2, 5]
    assert rows[1]["title"] == "Reviews <1>"
    assert (rows[1]["labelled"], rows[1]["served"]["current"]) == (12, "v-1")
    assert rows[1]["sentence"] == "waiting: 6 of 10 labels changed"


async def test_what_does_not_count_is_told_in_figures_and_in_words(world: AppWorld) -> None:
    world.serve(not_counted=(Uncounted("other_spelling", 20, ('"Shipping" for "shipping"',)),))
    found = (await world.client.get("/api/projects/5")).json()
    assert found["not_counted"] == [
        {"reason": "other_spelling", "count": 20, "examples": ['"Shipping" for "shipping"']}
    ]
    assert found["not_counted_in_words"].startswith(
        "20 annotations do not count: with a label that <Choices name="
    )


async def test_a_project_lists_its_versions_newest_first(published: AppWorld) -> None:
    found = (await published.client.get("/api/projects/5")).json()
    newest, oldest = found["versions"]
    assert (newest["version"], newest["served"], newest["previous"], newest["pinned"]) == (
        "v-2",
        True,
        False,
        True,
    )
    assert (oldest["version"], oldest["served"], oldest["previous"], oldest["pinned"]) == (
        "v-1",
        False,
        True,
        False,
    )
    assert newest["method"] == "linear-probe"
    assert newest["right"] == "75 % (60–86), cross-validated"
    assert (newest["expected"], newest["scored"], newest["scored_in_words"]) == (None, None, "")
    assert newest["estimate"]["judged"] == 40
    assert newest["gate"]["promote"] is True
    assert newest["reasons"] == ["First version."]
    assert found["runs"] == []


async def test_a_project_shows_its_newest_run_with_the_end_of_its_log(world: AppWorld) -> None:
    status = RunStatus("5-3", RunState.RUNNING, stage="fit", step=3, steps=10)
    world.serve(active=status, last=RunStatus("5-2", RunState.DONE))
    world.runs.store.write("runs/5-3/log.txt", "\n".join(f"line {number}" for number in range(300)).encode())
    (run,) = (await world.client.get("/api/projects/5")).json()["runs"]
    assert (run["run"], run["state"], run["stage"], run["step"]) == ("5-3", "running", "fit", 3)
    assert run["log"] == [f"line {number}" for number in range(100, 300)]


@pytest.mark.parametrize("path", ["/api/projects/77", "/api/projects/five"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_project_is_404_with_a_sentence(world: AppWorld, method: str, path: str) -> None:
    world.serve()
    answer = await world.client.request(method, path + ("/train" if method == "POST" else ""))
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Fitloop knows no project '")


@pytest.mark.parametrize("action", [action for action in PROJECT_ACTIONS if action is not Action.PROMOTE])
@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_every_action_becomes_a_stored_command(world: AppWorld, action: Action, content: bytes) -> None:
    world.serve()
    answer = await world.client.post(f"/api/projects/5/{action.value}", content=content)
    (command,) = world.events.commands
    assert (answer.status_code, answer.json()) == (200, {"command": command.id})
    assert (command.project_id, command.action, command.version) == (5, action, None)


async def test_a_command_says_who_asked(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, AuthSettings(username="anna", password="secret")) as world:
        world.serve()
        await world.client.post("/api/projects/5/pause", auth=("anna", "secret"))
    (command,) = world.events.commands
    assert command.asked_by == "anna from 127.0.0.1"


async def test_the_served_version_tells_why_it_serves(published: AppWorld) -> None:
    view = published.board.views[5]
    published.board.put(replace(view, served=replace(view.served, why="promoted by anna from 10.0.0.7")))
    rows = (await published.client.get("/api/projects/5")).json()["versions"]
    assert [row["why"] for row in rows] == ["promoted by anna from 10.0.0.7", ""]


async def test_promote_names_a_version(published: AppWorld) -> None:
    answer = await published.client.post("/api/projects/5/promote", json={"version": "v-1"})
    assert answer.status_code == 200
    assert published.events.commands[0].version == "v-1"


@pytest.mark.parametrize("version", ["v-9", "../v-1", "v-1/../v-2"])
async def test_an_unknown_version_is_404_and_the_newest_is_named(published: AppWorld, version: str) -> None:
    answer = await published.client.post("/api/projects/5/promote", json={"version": version})
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"Project 5 has no version {version!r}; the newest is v-2."
    assert published.events.commands == []


async def test_a_project_without_versions_has_none_to_name(world: AppWorld) -> None:
    world.serve(None)
    answer = await world.client.post("/api/projects/5/rollback", json={"version": "v-1"})
    assert answer.json()["detail"] == "Project 5 has no version 'v-1'."


@pytest.mark.parametrize("body", [{}, {"version": None}, {"version": ""}, {"version": 3}])
async def test_promote_without_a_version_is_400(world: AppWorld, body: dict[str, Any]) -> None:
    world.serve()
    answer = await world.client.post("/api/projects/5/promote", json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith('promote needs "version"')


async def test_train_takes_parameters_as_texts(world: AppWorld) -> None:
    world.serve()
    body = {"parameters": {"method": "finetune", "num_train_epochs": 2}}
    assert (await world.client.post("/api/projects/5/train", json=body)).status_code == 200
    assert world.events.commands[0].parameters == {"method": "finetune", "num_train_epochs": "2"}


@pytest.mark.parametrize("parameters", [{"method": "magic"}, {"nonsense": 1}, [1], "x", {"seed": True}])
async def test_a_bad_parameter_is_400_with_a_sentence(world: AppWorld, parameters: object) -> None:
    world.serve()
    answer = await world.client.post("/api/projects/5/train", json={"parameters": parameters})
    assert answer.status_code == 400
    assert "arameter" in answer.json()["detail"]
    assert world.events.commands == []


async def test_only_train_takes_parameters(world: AppWorld) -> None:
    world.serve()
    answer = await world.client.post("/api/projects/5/pause", json={"parameters": {"seed": 1}})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "pause takes no parameters: only train does."


async def test_an_unknown_action_is_404_with_those_that_there_are(world: AppWorld) -> None:
    world.serve()
    answer = await world.client.post("/api/projects/5/explode")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith(
        "'explode' is not an action: use one of train, promote, rollback"
    )


async def test_a_command_that_cannot_be_stored_is_503(world: AppWorld) -> None:
    world.serve()
    world.events.error = StoreError("The disk is full.")
    answer = await world.client.post("/api/projects/5/train")
    assert (answer.status_code, answer.json()["detail"]) == (503, "The disk is full.")


@pytest.mark.parametrize("body", [b"[]", b"x"])
async def test_a_body_that_is_no_object_is_400(world: AppWorld, body: bytes) -> None:
    world.serve()
    assert (await world.client.post("/api/projects/5/train", content=body)).status_code == 400


async def test_estimates_are_told_with_how_they_were_scored(published: AppWorld) -> None:
    score = EstimateScore("v-1", 1.0, 0.84, 0.05, 120, 100, 0.8, 0.03, Selection.RANDOM)
    errors = EstimateErrors(1, 0.04, 0.04, 0.02, 120, Selection.RANDOM)
    (view,) = published.board.views.values()
    EstimatesFile(published.registry.store, view.project.key).write(EstimateScores((score,)))
    published.board.put(replace(view, figures=Figures(estimates=errors)))
    found = (await published.client.get("/api/projects/5")).json()
    assert found["estimates_in_words"].startswith("The last estimate was off by 4 points")
    assert [one["scored_in_words"] != "" for one in found["versions"]] == [False, True]
    assert found["versions"][1]["scored"]["annotations"] == 120


async def test_whether_predictions_can_be_computed_is_told(world: AppWorld) -> None:
    """The test of an installation asks it: 200 where a predictor answers, 503 where none does."""
    assert (await world.client.get("/api/predictors")).json() == {"ready": True}
    world.inference.error = Overloaded("nobody is there")
    assert (await world.client.get("/api/predictors")).status_code == 503


async def test_no_encoder_is_listed_before_the_leader_has(world: AppWorld) -> None:
    assert (await world.client.get("/api/encoders")).json() == {"encoders": []}


async def test_a_head_shows_its_encoders_engine(tmp_path: Path) -> None:
    async with AppWorld(tmp_path) as world:
        view = world.serve("head-1")
        digest, key = "ab" * 32, view.project.key
        publish_stub_encoder(world.registry, digest)
        publish_head(world.registry, digest, "head-1", key)
        reason = "int8 was compared with fp32: 0 answers differ."
        known = EncoderStatus(digest, "minilm", "ct2-int8", reason, 900, 1.0, "", 1, (f"{key}/head-1",))
        EncoderStatusWriter(world.registry.store).write((known,))
        (row,) = (await world.client.get("/api/projects/5")).json()["versions"]
        assert (row["encoder"], row["engine"], row["engine_reason"]) == (digest, "ct2-int8", reason)
        (listed,) = (await world.client.get("/api/encoders")).json()["encoders"]
        assert (listed["digest"], listed["size"], listed["versions"]) == (digest, 900, [f"{key}/head-1"])
        page = (await world.client.get("/projects/5/versions/head-1", headers={"Accept": "text/html"})).text
        assert "<code>abababababab</code>, 0.0 MB" in page
        assert f"ct2-int8: {reason}" in page
        index = (await world.client.get("/", headers={"Accept": "text/html"})).text
        assert 'id="encoders"' in index
        assert "minilm" in index


async def test_a_missing_encoder_is_shown(tmp_path: Path) -> None:
    async with AppWorld(tmp_path) as world:
        world.serve("head-1")
        known = EncoderStatus(
            "ab" * 32, problem="encoder abab is not in the bucket", needed=1, versions=("5-1/head-1",)
        )
        EncoderStatusWriter(world.registry.store).write((known,))
        index = (await world.client.get("/", headers={"Accept": "text/html"})).text
        assert "encoder abab is not in the bucket" in index
        assert "needed by 5-1/head-1" in index
