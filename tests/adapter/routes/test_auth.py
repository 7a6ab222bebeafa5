"""Who may call: Basic credentials, probes for everybody, and a secret path for what Label Studio asks for."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.routing import Route

from services.adapter.app import create_app
from services.adapter.routes.auth import AccessPolicy
from services.adapter.state.board import Board
from services.core.errors import BadConfig
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import AuthSettings, Settings
from services.core.store.files import FileStore
from tests.support.app import AppWorld
from tests.support.fakes import FakeEventSink, FakeInference
from tests.support.metrics import metric_value


def settings(
    user: str = "user", password: str = "pässword", secret: str = "s3cret-path-of-16"
) -> AuthSettings:
    return AuthSettings(username=user, password=SecretStr(password), secret_path=secret)


def basic(pair: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode(encoding)).decode()}"}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[AppWorld]:
    async with AppWorld(tmp_path, settings()) as world:
        world.serve()
        yield world


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
async def test_probes_are_open(guarded: AppWorld, path: str) -> None:
    assert (await guarded.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/versions", "/metrics", "/api/projects", "/api/projects/5", "/nothing"]
)
async def test_all_else_asks_for_a_password(guarded: AppWorld, path: str) -> None:
    answer = await guarded.client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.json()["detail"].startswith("Fitloop requires a user name and a password")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
async def test_the_credentials_open_every_route(guarded: AppWorld, encoding: str) -> None:
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
async def test_other_headers_are_refused_and_never_an_error(guarded: AppWorld, header: str) -> None:
    answer = await guarded.client.post("/webhook", headers={"Authorization": header}, json={"action": "X"})
    assert answer.status_code == 401


@given(st.binary(max_size=60))
def test_no_bytes_but_the_right_ones_are_admitted(header: bytes) -> None:
    assert not AccessPolicy.from_settings(settings()).accepts(header)
    assert not AccessPolicy.from_settings(settings()).accepts(b"Basic " + header)


def test_a_password_outside_latin_1_is_utf8_only() -> None:
    policy = AccessPolicy.from_settings(settings(user="", password="пароль"))
    assert not policy.accepts(b"Basic " + base64.b64encode(b":"))
    assert policy.accepts(b"Basic " + base64.b64encode(":пароль".encode()))


async def test_below_the_secret_path_no_password_is_asked_for(guarded: AppWorld) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 5}}
    assert (await guarded.client.post("/s3cret-path-of-16/webhook", json=event)).status_code == 200
    assert guarded.events.notified == [(5, "ANNOTATION_CREATED")]
    setup = await guarded.client.post("/s3cret-path-of-16/setup", json={"project": "5.1"})
    assert setup.json() == {"model_version": "v-1"}
    assert guarded.events.remembered[5] == ({}, "http://fitloop.test:9090")  # the secret is stored nowhere


@pytest.mark.parametrize(
    "path",
    [
        "/s3cret-path-of-16-path-of-1/webhook",
        "/s3cret-path-of-16-path-of-16x/webhook",
        "//webhook",
        "/x/s3cret-path-of-16/webhook",
        "/S3CRET-PATH-OF-16/webhook",
    ],
)
async def test_another_prefix_is_refused(guarded: AppWorld, path: str) -> None:
    assert (await guarded.client.post(path, json={})).status_code == 401


async def test_a_prefix_without_credentials_is_not_found(world: AppWorld) -> None:
    assert (await world.client.post("/s3cret-path-of-16/webhook", json={})).status_code == 404


async def test_refused_events_are_counted(guarded: AppWorld) -> None:
    before = metric_value("fitloop_refused_requests_total", route="webhook")
    await guarded.client.post("/webhook", json={})
    await guarded.client.post("/webhook", json={})
    assert metric_value("fitloop_refused_requests_total", route="webhook") == before + 2


@pytest.fixture
async def below(tmp_path: Path) -> AsyncIterator[AppWorld]:
    known = settings().model_copy(update={"path_prefix": "/fitloop/"})
    async with AppWorld(tmp_path, known) as world:
        world.serve()
        yield world


async def test_an_ingress_may_pass_requests_on_below_a_path(below: AppWorld) -> None:
    """It is taken off before all else: the probes stay open, the secret path stands behind it, the rest asks for the password."""
    for path in (
        "/fitloop/health",
        "/health",
        "/fitloop/s3cret-path-of-16/versions",
        "/s3cret-path-of-16/versions",
    ):
        assert (await below.client.get(path)).status_code == 200, path
    for path in (
        "/fitloop",
        "/fitloop/",
        "/fitloop/versions",
        "/fitloopx/s3cret-path-of-16/versions",
        "/s3cret-path-of-16/fitloop/",
    ):
        assert (await below.client.get(path)).status_code in {401, 404}, path
    assert (await below.client.get("/fitloop", headers=basic("user:pässword"))).status_code == 200
    await below.client.post("/fitloop/s3cret-path-of-16/setup", json={"project": "5.1"})
    assert below.events.remembered[5] == ({}, "http://fitloop.test:9090/fitloop")


SECRET = "s3cret-path-of-16"
ROUTES = sorted(
    (method, re.sub(r"\{\w+\}", "5", route.path))
    for route in create_app(
        Settings(),
        Board(),
        FakeEventSink(),
        FakeInference(),
        Registry(FileStore(Path.cwd())),
        Runs(FileStore(Path.cwd())),
    ).routes
    if isinstance(route, Route)
    for method in (route.methods or set()) - {"HEAD"}
)
"""Every route of the application, so that one that is added later is closed until somebody opens it here."""
PROBES = {"/health", "/livez", "/readyz"}
LABEL_STUDIO = {"/health", "/setup", "/predict", "/webhook", "/versions"}


def test_the_routes_were_found() -> None:
    assert {("POST", "/setup"), ("POST", "/api/projects/5/5"), ("GET", "/"), ("GET", "/metrics")} <= set(
        ROUTES
    )


@pytest.mark.parametrize(("method", "path"), ROUTES)
class TestEveryRoute:
    """Without keys, with wrong ones, with other names, and with each key."""

    @pytest.fixture(autouse=True)
    def _no_delay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("services.adapter.routes.logins.FREE_FAILURES", 1000)

    @pytest.mark.parametrize("password", ["pässword", ""])
    async def test_is_closed_without_the_right_key(
        self, method: str, path: str, password: str, tmp_path: Path
    ) -> None:
        async with AppWorld(tmp_path, settings(password=password)) as world:
            for headers in ({}, basic("user:wrong"), basic("user:"), basic(":"), {"Host": "localhost"}):
                for prefix in ("", "/another-path-of-16"):
                    answer = await world.client.request(method, prefix + path, headers=headers, content=b"{}")
                    is_open = not prefix and path in PROBES
                    assert (answer.status_code == 401) != is_open, (prefix, headers)

    @pytest.mark.parametrize("password", ["pässword", ""])
    async def test_the_secret_path_opens_it_only_for_label_studio(
        self, method: str, path: str, password: str, tmp_path: Path
    ) -> None:
        async with AppWorld(tmp_path, settings(password=password)) as world:
            answer = await world.client.request(method, f"/{SECRET}{path}", content=b"{}")
            assert (answer.status_code == 401) == (path not in LABEL_STUDIO | PROBES)

    @pytest.mark.parametrize("prefix", ["", f"/{SECRET}"])
    async def test_the_password_opens_it(
        self, method: str, path: str, prefix: str, guarded: AppWorld
    ) -> None:
        headers = basic("user:pässword")
        answer = await guarded.client.request(method, prefix + path, headers=headers, content=b"{}")
        assert answer.status_code not in {401, 403, 421, 429} or (method, path) == ("GET", "/projects/5/5")

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::1",
            "a b",
        ],
    )
    async def test_without_a_password_other_host_names_are_refused(
        self, method: str, path: str, host: str, tmp_path: Path
    ) -> None:
        async with AppWorld(tmp_path, AuthSettings()) as world:
            headers = {"Host": host, "X-Forwarded-Host": "localhost", "Origin": f"http://{host}"}
            answer = await world.client.request(method, path, headers=headers, content=b"{}")
            assert (answer.status_code == 421) == (path not in PROBES)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9090",
        "localhost.",
        "127.0.0.1:80",
        "[::1]:9090",
        "[::1]",
        "box.lan",
        "box.lan.:80",
    ],
)
async def test_loopback_and_allowed_hosts_are_served(tmp_path: Path, host: str) -> None:
    async with AppWorld(tmp_path, AuthSettings(allowed_hosts=" box.lan , 10.0.0.7:9090")) as world:
        assert (await world.client.get("/versions", headers={"Host": host})).status_code == 200


async def test_two_host_headers_are_refused(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, AuthSettings()) as world:
        headers = [("Host", "localhost"), ("Host", "evil.example")]
        assert (await world.client.get("/versions", headers=headers)).status_code == 421


@pytest.mark.parametrize(("allowed", "status"), [((), 200), (("fitloop.example",), 421)])
async def test_anonymous_answers_every_name_unless_some_are_named(
    tmp_path: Path, allowed: tuple[str, ...], status: int
) -> None:
    async with AppWorld(tmp_path, AuthSettings(anonymous=True, allowed_hosts=allowed)) as world:
        assert (await world.client.get("/versions", headers={"Host": "any.example"})).status_code == status


async def test_wrong_logins_are_held_back_and_then_not_looked_at(
    guarded: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("services.adapter.routes.auth.asyncio.sleep", sleep)
    for _ in range(12):
        assert (await guarded.client.get("/", headers=basic("user:guess"))).status_code == 401
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    monkeypatch.setattr("services.adapter.routes.logins.MAX_DELAYED_PER_PEER", 0)
    answer = await guarded.client.get("/", headers=basic("user:pässword"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "4")


async def test_a_request_without_credentials_is_no_failed_login(guarded: AppWorld) -> None:
    """As a browser's first one, or an event of Label Studio: none of them is slowed down."""
    for _ in range(50):
        assert (await guarded.client.post("/webhook", json={})).status_code == 401


@pytest.mark.parametrize(
    "secret", ["short", "fifteen-letters", "with/a-slash-in-it", "ünïcödé-is-no-path", "x" * 15]
)
def test_guessable_or_invalid_secret_path_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="16 or more letters") as refused:
        AuthSettings(secret_path=secret)
    assert "openssl rand" in refused.value.errors()[0]["msg"]  # type: ignore[attr-defined]  # pydantic's


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "FITLOOP_ANONYMOUS=true"),
        ({"required": True}, "FITLOOP_AUTH_REQUIRED is set"),
        ({"required": True, "anonymous": True}, "FITLOOP_AUTH_REQUIRED is set"),
        ({"anonymous": True}, ""),
        ({"secret_path": SECRET}, ""),
        ({"username": "ann", "password": "pass"}, ""),
    ],
)
def test_anonymous_access_must_be_enabled_explicitly(given: dict[str, Any], why: str) -> None:
    auth = AuthSettings(**given)
    if not why:
        auth.check_credentials()
        return
    with pytest.raises(BadConfig, match=why):
        auth.check_credentials()
