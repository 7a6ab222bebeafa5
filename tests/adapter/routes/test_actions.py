"""Promote and the like from a page: asked once more, by a form of ours alone, stored as a command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import lxml.html
import pytest

from services.adapter.routes.api import PROJECT_ACTIONS
from services.core.domain import Action, RunState, RunStatus, Served
from services.core.errors import StoreError
from services.core.settings import AuthSettings
from tests.support import sample_projects
from tests.support.app import AppWorld

HTML = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
AUTH = AuthSettings(username="ann", password="secret", secret_path="hush-hush-hush-hush")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AppWorld]:
    """Project 5 with four versions, the third held; a browser that has given the password."""
    async with AppWorld(tmp_path, AUTH) as built:
        built.client.auth = ("ann", "secret")
        built.client.headers.update(HTML)
        made = sample_projects.build_versions("5-5", 4)
        sample_projects.publish_versions(built.registry.store, made)
        built.board.put(sample_projects.build_view(5, "Shop", made))
        yield built


async def asked(world: AppWorld, path: str) -> dict[str, str]:
    """The fields of the form at that path."""
    answer = await world.client.get(path)
    assert answer.status_code == 200, answer.text
    (form,) = lxml.html.fromstring(answer.text).forms
    assert form.method == "POST"
    return {str(name): str(value) for name, value in form.form_values()}


async def test_a_promotion_is_confirmed_and_then_stored(world: AppWorld) -> None:
    page = (await world.client.get("/projects/5/promote?version=shop-3")).text
    assert "Promote shop-3?" in page
    assert "instead of shop-4" in page
    assert "Accuracy: " in page
    assert "Held:" in page
    assert "pinned" in page
    assert world.events.commands == []
    fields = await asked(world, "/projects/5/promote?version=shop-3")
    answer = await world.client.post("/projects/5/promote?version=shop-3", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "../5?asked=promote")
    (command,) = world.events.commands
    assert (command.action, command.project_id, command.version) == (Action.PROMOTE, 5, "shop-3")
    assert command.asked_by == "ann from 127.0.0.1"
    page = (await world.client.get("/projects/5?asked=promote")).text
    assert "Promotion requested." in page


@pytest.mark.parametrize("action", [action for action in PROJECT_ACTIONS if action is not Action.PROMOTE])
async def test_every_action_has_a_form(world: AppWorld, action: Action) -> None:
    fields = await asked(world, f"/projects/5/{action.value}")
    answer = await world.client.post(f"/projects/5/{action.value}", data=fields)
    assert answer.status_code == 303
    assert world.events.commands[-1].action is action
    assert f"asked={action.value}" in answer.headers["location"]


async def test_a_rollback_names_the_version_that_was_shown(world: AppWorld) -> None:
    page = (await world.client.get("/projects/5")).text
    (link,) = [href for href in lxml.html.fromstring(page).xpath("//a/@href") if "/rollback" in href]
    fields = await asked(world, link.replace("../", "/"))
    assert fields["version"] == "shop-2"


async def test_an_active_run_is_named(world: AppWorld) -> None:
    view = sample_projects.build_view(5, "Shop", active=RunStatus("5-3", RunState.RUNNING))
    world.board.put(view)
    assert "Run 5-3 is cancelled" in (await world.client.get("/projects/5/cancel")).text
    assert "Run 5-3 is active" in (await world.client.get("/projects/5/train")).text


async def test_without_an_earlier_version_a_rollback_says_so(world: AppWorld) -> None:
    world.board.put(sample_projects.build_view(5, "Shop", served=Served("shop-1")))
    assert "no previous version" in (await world.client.get("/projects/5/rollback")).text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "http://elsewhere.test"},
    ],
)
async def test_a_form_of_another_site_does_nothing(world: AppWorld, headers: dict[str, str]) -> None:
    fields = await asked(world, "/projects/5/train")
    answer = await world.client.post("/projects/5/train", data=fields, headers=headers)
    assert answer.status_code == 403
    assert world.events.commands == []


async def test_a_form_of_unknown_origin_is_refused(world: AppWorld) -> None:
    fields = await asked(world, "/projects/5/train")
    del world.client.headers["Sec-Fetch-Site"]
    answer = await world.client.post("/projects/5/train", data=fields)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert "not sent by Fitloop&#39;s own page" in answer.text
    ours = await world.client.post(
        "/projects/5/train", data=fields, headers={"Origin": "http://fitloop.test:9090"}
    )
    assert ours.status_code == 303


@pytest.mark.parametrize("fields", [{}, {"token": "x"}, {"token": "9999999999.00"}, {"version": "shop-1"}])
async def test_a_form_without_its_token_does_nothing(world: AppWorld, fields: dict[str, str]) -> None:
    answer = await world.client.post("/projects/5/train", data=fields)
    assert answer.status_code == 403
    assert "has expired" in answer.text
    assert world.events.commands == []


async def test_a_token_is_for_one_purpose(world: AppWorld) -> None:
    fields = await asked(world, "/projects/5/promote?version=shop-1")
    answer = await world.client.post("/projects/5/promote", data={**fields, "version": "shop-2"})
    assert answer.status_code == 403


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a&b", b"x" * 5000])
async def test_a_body_that_is_no_form_is_refused(world: AppWorld, body: bytes) -> None:
    answer = await world.client.post("/projects/5/train", content=body)
    assert answer.status_code in {403, 413}


async def test_invalid_actions_answer_with_a_page(world: AppWorld) -> None:
    for path, sentence in {
        "/projects/9/train": "knows no project",
        "/projects/5/dance": "not an action",
        "/projects/5/promote?version=shop-99": "has no version",
        "/projects/5/promote": "needs",
    }.items():
        answer = await world.client.get(path)
        assert answer.status_code in {400, 404}
        assert sentence in answer.text
        assert "<h1>" in answer.text


async def test_a_store_error_answers_with_a_page(world: AppWorld) -> None:
    fields = await asked(world, "/projects/5/train")
    world.events.error = StoreError("The disk is full.")
    answer = await world.client.post("/projects/5/train", data=fields)
    assert answer.status_code == 503
    assert "The disk is full." in answer.text


async def test_below_the_secret_path_pages_require_the_password(world: AppWorld) -> None:
    for path in ("", "/projects/5", "/projects/5/train", "/api/projects"):
        assert (await world.client.get(f"/hush-hush-hush-hush{path}", auth=httpx.Auth())).status_code == 401
    fields = await asked(world, "/hush-hush-hush-hush/projects/5/train")
    answer = await world.client.post("/hush-hush-hush-hush/projects/5/train", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "../5?asked=train")
    page = lxml.html.fromstring((await world.client.get("/hush-hush-hush-hush")).text)
    page.make_links_absolute("http://fitloop.test/hush-hush-hush-hush")
    ours = [href for href in page.xpath("//a/@href") if href.startswith("http://fitloop.test")]
    assert ours
    assert all(href.startswith("http://fitloop.test/hush-hush-hush-hush") for href in ours)


async def test_a_version_of_few_texts_has_no_accuracy(world: AppWorld) -> None:
    (first, *_) = sample_projects.build_versions("5-5", 1)
    few = replace(
        first.manifest, version="few-1", estimate=replace(first.manifest.estimate, judged=12, right=9)
    )
    sample_projects.publish_versions(world.registry.store, [replace(first, manifest=few)])
    page = (await world.client.get("/projects/5/promote?version=few-1")).text
    assert "Accuracy: too few labels to say." in page


async def test_the_current_version_replaces_nothing(world: AppWorld) -> None:
    for action in ("promote", "rollback"):
        page = (await world.client.get(f"/projects/5/{action}?version=shop-4")).text
        assert "shop-4 is already the current version" in page
        assert "instead of" not in page


async def test_without_a_current_version_nothing_is_replaced(world: AppWorld) -> None:
    world.board.put(sample_projects.build_view(5, "Shop", served=Served()))
    page = (await world.client.get("/projects/5/rollback?version=shop-1")).text
    assert "suggestions of shop-1." in page
    assert "None" not in page


async def test_without_a_password_actions_are_disabled(tmp_path: Path) -> None:
    async with AppWorld(tmp_path) as world:
        world.serve(None)
        page = (await world.client.get("/projects/5", headers=HTML)).text
        assert "no password is set" in page
        assert "/train" not in page
        for method in ("GET", "POST"):
            answer = await world.client.request(method, "/projects/5/train", headers=HTML)
            assert answer.status_code == 403
            assert "BASIC_AUTH_USER" in answer.text
        assert world.events.commands == []
