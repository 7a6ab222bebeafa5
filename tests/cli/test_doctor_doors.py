"""Who has no credentials is kept out: each door that stands open is named, and the secret path never."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.cli.checks.context import Context, Location
from services.cli.checks.doors import anonymous_access
from services.cli.checks.finding import Verdict
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


def test_closed_doors_are_good_and_each_was_tried(ingress: FakeIngress, tmp_path: Path) -> None:
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
         "GET <the URL's path>/api/projects without a login: answered.")),
        ("/", "GET / without a login; GET <the URL's path>/ without a login: answered."),
        ("/setup", "POST /setup without a login: answered."),
    ],
)  # fmt: skip
def test_an_open_door_is_named_without_the_secret_path(
    ingress: FakeIngress, tmp_path: Path, route: str, named: str
) -> None:
    ingress.open = frozenset({route})
    said = anonymous_access(secret_only(tmp_path, ingress))
    assert said.verdict is Verdict.FAIL
    assert said.sentence.endswith(f" without a login. {named}")
    assert "BASIC_AUTH_PASS" in said.advice
    assert SECRET not in said.sentence + said.advice


def test_a_secret_path_that_nothing_compares_with_is_no_lock(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.secret, ingress.open = "", frozenset()
    assert anonymous_access(secret_only(tmp_path, ingress)).verdict is Verdict.FAIL


def test_a_password_in_the_url_is_not_sent(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.secret, ingress.authorization = "", LOGIN
    auth = AuthSettings(username="u", password=SecretStr("p"))
    assert (
        anonymous_access(build_context(tmp_path, ingress.url.replace("//", "//u:p@"), auth=auth)).verdict
        is Verdict.OK
    )


@pytest.mark.parametrize(
    ("where", "anonymous", "verdict", "sentence"),
    [
        (Location.MACHINE, False, Verdict.WARN, "Whoever uses this machine may train"),
        (
            Location.POD,
            False,
            Verdict.FAIL,
            "Whoever reaches this address may train and promote models without",
        ),
        (
            Location.POD,
            True,
            Verdict.WARN,
            "may train and promote models, as FITLOOP_ANONYMOUS=true asks for.",
        ),
    ],
)
def test_without_credentials_it_matters_who_reaches_it_and_whether_that_is_meant(
    ingress: FakeIngress, tmp_path: Path, where: Location, anonymous: bool, verdict: Verdict, sentence: str
) -> None:
    ingress.secret = ""
    said = anonymous_access(build_context(tmp_path, ingress.url, where, AuthSettings(anonymous=anonymous)))
    assert said.verdict is verdict
    assert sentence in said.sentence


def test_anonymous_beside_credentials_excuses_nothing(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.open = frozenset({"/setup"})
    auth = AuthSettings(secret_path=SECRET, anonymous=True)
    assert (
        anonymous_access(build_context(tmp_path, f"{ingress.url}/{SECRET}", auth=auth)).verdict
        is Verdict.FAIL
    )


def test_another_server_at_the_origin_is_not_ours_to_close(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.is_fitloop = False
    assert anonymous_access(secret_only(tmp_path, ingress)).verdict is Verdict.OK


def test_below_a_prefix_the_prefix_is_kept_and_the_secret_path_left_out(
    ingress: FakeIngress, tmp_path: Path
) -> None:
    auth = AuthSettings(secret_path=SECRET, path_prefix="/fit")
    anonymous_access(build_context(tmp_path, f"{ingress.url}/fit/{SECRET}", auth=auth))
    assert [path for _, path in ingress.asked[:3]] == ["/fit/api/projects", "/fit/", "/fit/setup"]
    assert ingress.asked[-1] == ("GET", f"/fit/{SECRET}/")


async def test_fitloop_answers_strangers_as_the_checks_take_for_open(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, AuthSettings(anonymous=True)) as world:
        assert (await world.client.get("/")).json()["model_class"] == "Fitloop"
        assert "projects" in (await world.client.get("/api/projects")).json()
        world.board.ready.clear()
        starting = await world.client.get("/api/projects")
        assert (starting.status_code, "Fitloop" in starting.json()["detail"]) == (503, True)
