"""What is wrong for all projects at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.adapter.routes.auth import RefusedEvents
from services.adapter.routes.home import NO_PREDICTORS, STORE_UNAVAILABLE, Banners
from services.adapter.state.board import Board
from services.core.settings import AuthSettings, LabelStudioSettings, Settings
from tests.support.app import AppWorld
from tests.support.fakes import FakeInference

TOLD = Settings(label_studio=LabelStudioSettings(api_key="a-token"))


async def test_all_is_well() -> None:
    assert await Banners(TOLD, FakeInference(), RefusedEvents(), Board()).current() == []


async def test_a_missing_token_is_said_as_the_command_line_says_it() -> None:
    (found,) = await Banners(Settings(), FakeInference(), RefusedEvents(), Board()).current()
    assert "LABEL_STUDIO_API_KEY is not set" in found


async def test_predictors_that_do_not_answer_are_told_of() -> None:
    assert await Banners(TOLD, FakeInference(error=KeyError()), RefusedEvents(), Board()).current() == [
        NO_PREDICTORS
    ]


async def test_a_storage_that_does_not_answer_is_told_of() -> None:
    board = Board()
    board.store_problem = "The bucket does not answer."
    (found,) = await Banners(TOLD, FakeInference(), RefusedEvents(), board).current()
    assert found == f"The bucket does not answer. {STORE_UNAVAILABLE}"


async def test_a_slow_readiness_check_is_for_the_next_page() -> None:
    answers: asyncio.Queue[bool] = asyncio.Queue()

    class Slow(FakeInference):
        async def ready(self) -> bool:
            return await answers.get()

    notices = Banners(TOLD, Slow(), RefusedEvents(), Board())
    assert await notices.current() == []
    assert await notices.current() == []
    await answers.put(False)
    assert await notices.current() == [NO_PREDICTORS]


async def test_refused_events_show_a_banner(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, AuthSettings(username="ann", password="secret")) as world:
        assert "Events of Label Studio were refused" not in await first_page(world)
        await world.client.post("/webhook", json={})
        text = await first_page(world)
        assert "Events of Label Studio were refused" in text
        assert "FITLOOP_SECRET_PATH" in text
        assert " UTC" in text


async def first_page(world: AppWorld) -> str:
    """As a browser with the password has it."""
    answer = await world.client.get("/", headers={"Accept": "text/html"}, auth=("ann", "secret"))
    return answer.text
