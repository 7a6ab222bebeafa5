"""Whether a request was made by a page of ours, and tokens of forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.routes.same_origin import FormTokens, is_same_origin
from services.core.settings import AuthSettings
from tests.support.app import AppWorld

AUTH = AuthSettings(username="ann", password="secret")
TOKENS = FormTokens(AUTH)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://a.test", "host": "a.test"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://a.test:9090", "host": "A.test:9090"}, True),
        ({"origin": "https://a.test", "host": "pod:9090", "x-forwarded-host": "a.test"}, True),
        ({"origin": "https://a.test", "host": "pod:9090", "x-forwarded-host": "a.test, inner.test"}, True),
        ({"origin": "http://a.test", "host": "a.test:80"}, True),
        ({"origin": "https://a.test", "host": "pod:9090", "x-forwarded-host": "a.test:443"}, True),
        ({"origin": "https://a.test", "host": "a.test:80"}, False),
        ({"origin": "http://", "host": ""}, False),
        ({"origin": "null", "host": "", "x-forwarded-host": ", "}, False),
        ({"origin": "http://b.test", "host": "a.test"}, False),
        ({"origin": "null", "host": "a.test"}, False),
        ({"origin": "http://a.test"}, False),
    ],
)
def test_what_a_browser_says_decides(headers: dict[str, str], found: bool | None) -> None:
    assert is_same_origin(headers) is found


async def test_cross_site_requests_change_nothing(world: AppWorld) -> None:
    world.serve()
    answer = await world.client.post("/api/projects/5/train", headers={"Origin": "http://elsewhere.test"})
    assert answer.status_code == 403
    assert "page of another site" in answer.json()["detail"]
    assert world.events.commands == []
    assert (await world.client.get("/", headers={"Origin": "http://elsewhere.test"})).status_code == 200
    assert (await world.client.post("/api/projects/5/train")).status_code == 200


def test_a_token_holds_for_its_wish_and_an_hour() -> None:
    token = TOKENS.issue("5-1 promote v-1", 1000.0)
    assert TOKENS.is_valid(token, "5-1 promote v-1", 1001.0)
    assert not TOKENS.is_valid(token, "5-1 promote v-2", 1001.0)
    assert not TOKENS.is_valid(token, "5-1 promote v-1", 4601.0)


def test_tokens_are_valid_on_all_replicas_of_one_password() -> None:
    token = TOKENS.issue("wish", 0.0)
    assert FormTokens(AUTH).is_valid(token, "wish", 1.0)
    assert not FormTokens(AuthSettings(username="ann", password="other")).is_valid(token, "wish", 1.0)


@given(st.text())
def test_nothing_else_is_a_token(text: str) -> None:
    assert not TOKENS.is_valid(text, "wish", 0.0)


def test_without_a_password_there_are_none() -> None:
    none = FormTokens(AuthSettings())
    assert not none
    assert not none.is_valid(none.issue("wish", 0.0), "wish", 1.0)
