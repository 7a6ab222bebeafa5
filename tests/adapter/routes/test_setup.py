"""What Label Studio asks before every task: /health, /setup, /versions, and the probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.adapter.state.board import ProjectView
from services.core.domain import Project, Served
from services.core.settings import Settings, TrainingSettings
from services.core.store.files import FileStore
from tests.support.app import AppWorld


@pytest.mark.parametrize("project", [5, "5", "5.1795473352"])
async def test_setup_says_the_served_version(world: AppWorld, project: object) -> None:
    world.serve("reviews-3")
    answer = await world.client.post(
        "/setup", json={"project": project, "schema": "", "hostname": "http://x"}
    )
    assert answer.json() == {"model_version": "reviews-3"}
    assert world.events.notified == []


async def test_a_project_without_a_model_is_untrained(world: AppWorld) -> None:
    world.serve(None)
    assert (await world.client.post("/setup", json={"project": 5})).json() == {"model_version": "untrained"}


async def test_an_unknown_project_is_untrained_and_looked_at(world: AppWorld) -> None:
    answer = await world.client.post("/setup", json={"project": "77.1"})
    assert answer.json() == {"model_version": "untrained"}
    assert world.events.notified == [(77, "SETUP")]


async def test_a_config_without_a_question_still_connects(world: AppWorld) -> None:
    world.serve(None, space=None, problem="The label config needs a Choices.")
    assert (await world.client.post("/setup", json={"project": 5})).status_code == 200


async def test_until_the_state_is_read_setup_is_503_and_health_is_up(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, ready=False) as world:
        for method, path in [
            ("POST", "/setup"),
            ("GET", "/readyz"),
            ("POST", "/predict"),
            ("GET", "/api/projects"),
        ]:
            body = {"project": 5, "tasks": []} if method == "POST" else None
            answer = await world.client.request(method, path, json=body)
            assert (path, answer.status_code) == (path, 503)
            assert answer.headers["retry-after"] == "2"
        for path in ("/health", "/livez", "/", "/metrics"):
            assert (await world.client.get(path)).status_code == 200
        world.board.ready.set()
        assert (await world.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("extra", [None, "", {}, "{}"])
async def test_extra_params_may_be_nothing(world: AppWorld, extra: object) -> None:
    world.serve()
    assert (await world.client.post("/setup", json={"project": 5, "extra_params": extra})).status_code == 200
    assert world.events.remembered == {5: ({}, "http://fitloop.test:9090")}


@pytest.mark.parametrize(
    "extra", [{"method": "finetune", "nonsense": "x"}, '{"method": "finetune", "nonsense": "x"}']
)
async def test_valid_extra_params_are_kept_and_invalid_ones_shown(world: AppWorld, extra: object) -> None:
    world.serve()
    for _ in range(2):
        answer = await world.client.post("/setup", json={"project": 5, "extra_params": extra})
        assert answer.status_code == 200
    assert world.events.remembered[5][0] == {"method": "finetune"}
    assert (
        "'nonsense' is not a run parameter" in (await world.client.get("/api/projects/5")).json()["problem"]
    )
    await world.client.post("/setup", json={"project": 5, "extra_params": None})
    assert (await world.client.get("/api/projects/5")).json()["problem"] == ""


async def test_a_body_without_extra_params_changes_nothing(world: AppWorld) -> None:
    world.serve()
    await world.client.post("/setup", json={"project": 5, "extra_params": {"seed": "3", "nonsense": "x"}})
    await world.client.post("/setup", json={"project": 5})
    assert world.events.remembered[5][0] == {"seed": "3"}
    assert (
        "'nonsense' is not a run parameter" in (await world.client.get("/api/projects/5")).json()["problem"]
    )


@pytest.mark.parametrize("extra", ["not json", [1], 7])
async def test_extra_params_of_a_wrong_type_do_not_prevent_setup(world: AppWorld, extra: object) -> None:
    assert (await world.client.post("/setup", json={"project": 5, "extra_params": extra})).status_code == 200


async def test_rejected_parameters_are_bounded(world: AppWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.adapter.routes.setup._MAX_PROJECTS", 1)
    for project in (5, 6):
        await world.client.post("/setup", json={"project": project, "extra_params": 7})
    world.serve()
    assert (await world.client.get("/api/projects/5")).json()["problem"] == ""


async def test_the_url_that_was_reached_is_kept_without_credentials(world: AppWorld) -> None:
    url = "https://user:pw@fitloop.test:8443/setup"
    await world.client.post(url, json={"project": 5})
    assert world.events.remembered[5][1] == "https://fitloop.test:8443"


@pytest.mark.parametrize("body", [b"", b"nothing", b"[]", b"{}", b'{"project": null}', b'{"project": "x"}'])
async def test_setup_without_a_project_is_400_with_a_sentence(world: AppWorld, body: bytes) -> None:
    answer = await world.client.post("/setup", content=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The body")


async def test_the_access_token_is_logged_nowhere(
    world: AppWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"project": 5, "access_token": "do-not-log-me", "extra_params": {"api_key": "do-not-log-me"}}
    await world.client.post("/setup", json=body)
    printed = capsys.readouterr()
    assert "do-not-log-me" not in printed.out + printed.err


async def test_versions_of_the_only_project_are_listed(world: AppWorld) -> None:
    served = Served("shop-1", previous="shop-2", target="shop-4")
    world.serve(served=served, version_names=("shop-4", "shop-3", "shop-2"))
    for path in ("/versions", "/versions?project=5.1", "/versions?project=5"):
        answer = await world.client.get(path)
        assert answer.json() == {"versions": ["shop-4", "shop-3", "shop-2", "shop-1"]}
    assert (await world.client.get("/versions?project=x")).status_code == 400
    assert (await world.client.get("/versions?project=")).status_code == 400


async def test_versions_of_other_teams_are_not_listed(world: AppWorld) -> None:
    """Label Studio names no project, and shows the answer to everybody who may open one."""
    world.serve("shop-1")
    world.board.put(ProjectView(Project("6-1", 6, "Layoffs", "", "", ""), served=Served("layoffs-1")))
    assert (await world.client.get("/versions")).json() == {"versions": []}
    assert (await world.client.get("/versions?project=6")).json() == {"versions": ["layoffs-1"]}
    assert (await world.client.get("/versions?project=9")).json() == {"versions": []}


async def test_versions_are_answered_without_the_store(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("The store was asked.")

    for name in ("read", "keys", "entries", "folders"):
        monkeypatch.setattr(FileStore, name, fails)
    for number in range(500):
        project = Project(f"{number}-1", number, "", "", "", "")
        world.board.put(ProjectView(project, served=Served(f"v-{number}")))
    assert (await world.client.get("/versions?project=7")).json() == {"versions": ["v-7"]}
    assert (await world.client.get("/versions")).json() == {"versions": []}


async def test_extra_params_name_only_base_models_that_are_allowed(tmp_path: Path) -> None:
    training = TrainingSettings(allowed_base_models=("acme/*",))
    async with AppWorld(tmp_path, settings=Settings(training=training)) as world:
        world.serve()
        await world.client.post("/setup", json={"project": 5, "extra_params": {"base_model": "/etc"}})
        assert world.events.remembered[5][0] == {}
        problem = (await world.client.get("/api/projects/5")).json()["problem"]
        assert "FITLOOP_ALLOWED_BASE_MODELS (acme/*)" in problem
        asked = {"parameters": {"base_model": "/etc"}}
        assert (await world.client.post("/api/projects/5/train", json=asked)).status_code == 400
