"""Who may call: Basic credentials, the probes for everybody, and a secret path for what Label Studio calls."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.adapter.routes.auth import Guard
from services.core.settings import AuthSettings
from tests.fakes import World, metric


def settings(user: str = "user", password: str = "pässword", secret: str = "s3cret") -> AuthSettings:
    return AuthSettings(username=user, password=SecretStr(password), secret_path=secret)


def basic(pair: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode(encoding)).decode()}"}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path, settings()) as world:
        world.serve()
        yield world


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
async def test_probes_are_open(guarded: World, path: str) -> None:
    assert (await guarded.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/versions", "/metrics", "/api/projects", "/api/projects/5", "/nothing"]
)
async def test_all_else_asks_for_a_password(guarded: World, path: str) -> None:
    answer = await guarded.client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.json()["detail"].startswith("This Fitloop asks for a user name and a password")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
async def test_the_credentials_open_every_route(guarded: World, encoding: str) -> None:
    headers = basic("user:pässword", encoding)
    assert (await guarded.client.get("/versions", headers=headers)).status_code == 200
    assert (await guarded.client.post("/setup", headers=headers, json={"project": 5})).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic dXNlcg==",
        "Basic dXNlcjp3cm9uZw==",
        "Bearer dXNlcjpww6Rzc3dvcmQ=",
        "Digest x",
        "Basic " + "A" * 5000,
    ],
)
async def test_other_headers_are_refused_and_never_an_error(guarded: World, header: str) -> None:
    answer = await guarded.client.post("/webhook", headers={"Authorization": header}, json={"action": "X"})
    assert answer.status_code == 401


@given(st.binary(max_size=60))
def test_no_bytes_but_the_right_ones_are_admitted(header: bytes) -> None:
    assert not Guard.of(settings()).admits(header)
    assert not Guard.of(settings()).admits(b"Basic " + header)


def test_a_password_that_latin_1_cannot_write_has_no_shorter_form() -> None:
    guard = Guard.of(settings(user="", password="пароль"))
    assert not guard.admits(b"Basic " + base64.b64encode(b":"))
    assert guard.admits(b"Basic " + base64.b64encode(":пароль".encode()))


async def test_without_a_password_everybody_may_call(tmp_path: Path) -> None:
    async with World(tmp_path, settings(user="user", password="", secret="")) as world:
        assert (await world.client.get("/versions", headers={"Authorization": "Bearer x"})).status_code == 200


async def test_below_the_secret_path_no_password_is_asked_for(guarded: World) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 5}}
    assert (await guarded.client.post("/s3cret/webhook", json=event)).status_code == 200
    assert guarded.desk.notified == [(5, "ANNOTATION_CREATED")]
    setup = await guarded.client.post("/s3cret/setup", json={"project": "5.1"})
    assert setup.json() == {"model_version": "v-1"}
    assert guarded.desk.remembered[5] == ({}, "http://fitloop.test:9090/s3cret")
    for path in ("/s3cret/health", "/s3cret/versions"):
        assert (await guarded.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/s3cret",
        "/s3cret/",
        "/s3cret/api/projects",
        "/s3cret/api/projects/5",
        "/s3cret/health/x",
        "/s3cret/new",
    ],
)
async def test_below_the_secret_path_all_but_the_machines_routes_asks_for_the_password(
    guarded: World, path: str
) -> None:
    assert (await guarded.client.get(path)).status_code == 401
    assert (await guarded.client.get(path, headers=basic("user:pässword"))).status_code != 401


async def test_a_secret_path_without_a_password_closes_all_else(tmp_path: Path) -> None:
    async with World(tmp_path, settings(user="", password="")) as world:
        world.serve()
        for path in ("/", "/versions", "/api/projects", "/s3cret/", "/s3cret/api/projects", "/new"):
            for headers in ({}, basic(":"), basic("user:")):
                assert (await world.client.get(path, headers=headers)).status_code == 401, path
        assert (await world.client.post("/api/projects/5/train", json={})).status_code == 401
        assert (await world.client.post("/setup", json={"project": 5})).status_code == 401
        assert (await world.client.post("/s3cret/setup", json={"project": 5})).status_code == 200


@pytest.mark.parametrize(
    "path", ["/s3cre/webhook", "/s3cretx/webhook", "//webhook", "/x/s3cret/webhook", "/S3CRET/webhook"]
)
async def test_another_prefix_is_refused(guarded: World, path: str) -> None:
    assert (await guarded.client.post(path, json={})).status_code == 401


async def test_a_prefix_without_credentials_is_not_found(world: World) -> None:
    assert (await world.client.post("/s3cret/webhook", json={})).status_code == 404


async def test_refused_events_are_counted(guarded: World) -> None:
    before = metric("fitloop_refused_requests_total", route="webhook")
    await guarded.client.post("/webhook", json={})
    await guarded.client.post("/webhook", json={})
    assert metric("fitloop_refused_requests_total", route="webhook") == before + 2


@pytest.fixture
async def below(tmp_path: Path) -> AsyncIterator[World]:
    known = settings().model_copy(update={"path_prefix": "/fitloop/"})
    async with World(tmp_path, known) as world:
        world.serve()
        yield world


async def test_an_ingress_may_pass_requests_on_below_a_path(below: World) -> None:
    """It is taken off before all else: the probes stay open, the secret path stands behind it, the rest asks for the password."""
    for path in ("/fitloop/health", "/health", "/fitloop/s3cret/versions", "/s3cret/versions"):
        assert (await below.client.get(path)).status_code == 200, path
    for path in (
        "/fitloop",
        "/fitloop/",
        "/fitloop/versions",
        "/fitloopx/s3cret/versions",
        "/s3cret/fitloop/",
    ):
        assert (await below.client.get(path)).status_code in {401, 404}, path
    assert (await below.client.get("/fitloop", headers=basic("user:pässword"))).status_code == 200
    await below.client.post("/fitloop/s3cret/setup", json={"project": "5.1"})
    assert below.desk.remembered[5] == ({}, "http://fitloop.test:9090/fitloop/s3cret")
