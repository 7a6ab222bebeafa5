"""Requests without credentials are refused: the doctor names each route that answers, and never the secret path."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.cli.checks import Context, Location, Verdict
from services.cli.checks.access import anonymous_access
from services.core.settings import AuthSettings
from tests.support.app import AppWorld
from tests.support.doctor import FakeIngress, build_context, serve_ingress

SECRET = "hidden-path-of-16"
LOGIN = "Basic " + base64.b64encode(b"u:p").decode()


@pytest.fixture
def ingress() -> Iterator[FakeIngress]:
    with serve_ingress(FakeIngress(secret=SECRET)) as found:
        yield found


def secret_only(tmp_path: Path, ingress: FakeIngress) -> Context:
    return build_context(tmp_path, f"{ingress.url}/{SECRET}", auth=AuthSettings(secret_path=SECRET))


def test_all_routes_refuse_requests_without_credentials(ingress: FakeIngress, tmp_path: Path) -> None:
    assert anonymous_access(secret_only(tmp_path, ingress)).verdict is Verdict.OK
    assert ingress.asked == [
        ("GET", "/api/projects"),
        ("GET", "/"),
        ("POST", "/setup"),
        ("GET", "/api/projects"),
        ("GET", f"/{SECRET}/api/projects"),
        ("GET", f"/{SECRET}/"),
    ]


@pytest.mark.parametrize(
    ("route", "named"),
    [
        ("/api/projects", ("GET /api/projects without a login; GET /api/projects with a wrong password; "
         "GET <the URL's path>/api/projects without a login.")),
        ("/", "GET / without a login; GET <the URL's path>/ without a login."),
        ("/setup", "POST /setup without a login."),
    ],
)  # fmt: skip
def test_open_routes_are_named_without_the_secret_path(
    ingress: FakeIngress, tmp_path: Path, route: str, named: str
) -> None:
    ingress.open = frozenset({route})
    finding = anonymous_access(secret_only(tmp_path, ingress))
    assert finding.verdict is Verdict.FAIL
    assert finding.message.endswith(f" Answered: {named}")
    assert SECRET not in finding.message + finding.advice


def test_a_secret_path_that_is_not_enforced_fails(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.secret, ingress.open = "", frozenset()
    assert anonymous_access(secret_only(tmp_path, ingress)).verdict is Verdict.FAIL


def test_the_password_in_the_url_is_not_sent(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.secret, ingress.authorization = "", LOGIN
    auth = AuthSettings(username="u", password=SecretStr("p"))
    assert (
        anonymous_access(build_context(tmp_path, ingress.url.replace("//", "//u:p@"), auth=auth)).verdict
        is Verdict.OK
    )


@pytest.mark.parametrize(
    ("location", "anonymous", "verdict", "sentence"),
    [
        (
            Location.MACHINE,
            False,
            Verdict.WARN,
            "Anyone who uses this machine can train and promote models. ",
        ),
        (
            Location.POD,
            False,
            Verdict.FAIL,
            "Anyone who can reach this address can train and promote models without a login. ",
        ),
        (
            Location.POD,
            True,
            Verdict.WARN,
            "Anyone who can reach this address can train and promote models, as FITLOOP_ANONYMOUS=true allows. ",
        ),
    ],
)
def test_the_verdict_without_credentials_depends_on_exposure(
    ingress: FakeIngress, tmp_path: Path, location: Location, anonymous: bool, verdict: Verdict, sentence: str
) -> None:
    ingress.secret = ""
    auth = AuthSettings(anonymous=anonymous)
    finding = anonymous_access(build_context(tmp_path, ingress.url, location, auth))
    assert finding.verdict is verdict
    assert finding.message.startswith(sentence)


def test_anonymous_access_beside_credentials_still_fails(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.open = frozenset({"/setup"})
    auth = AuthSettings(secret_path=SECRET, anonymous=True)
    assert (
        anonymous_access(build_context(tmp_path, f"{ingress.url}/{SECRET}", auth=auth)).verdict
        is Verdict.FAIL
    )


def test_another_server_at_the_same_origin_is_ignored(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.is_fitloop = False
    assert anonymous_access(secret_only(tmp_path, ingress)).verdict is Verdict.OK


def test_requests_keep_the_prefix_and_omit_the_secret_path(ingress: FakeIngress, tmp_path: Path) -> None:
    auth = AuthSettings(secret_path=SECRET, path_prefix="/fit")
    anonymous_access(build_context(tmp_path, f"{ingress.url}/fit/{SECRET}", auth=auth))
    assert [path for _, path in ingress.asked[:3]] == ["/fit/api/projects", "/fit/", "/fit/setup"]
    assert ingress.asked[-1] == ("GET", f"/fit/{SECRET}/")


async def test_the_real_app_answers_as_the_checks_expect(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, AuthSettings(anonymous=True)) as world:
        assert (await world.client.get("/")).json()["model_class"] == "Fitloop"
        assert "projects" in (await world.client.get("/api/projects")).json()
        world.board.ready.clear()
        starting = await world.client.get("/api/projects")
        assert (starting.status_code, "Fitloop" in starting.json()["detail"]) == (503, True)
