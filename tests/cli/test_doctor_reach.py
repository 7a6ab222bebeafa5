"""The URL as Label Studio calls it, over real HTTP with each trap made for real."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.cli.checks import doors, reach
from services.cli.checks.context import (
    Context,
    Location,
    host_and_path,
    is_cluster_local,
    is_private,
    problem_of,
    redact_url,
)
from services.cli.checks.finding import Finding, Verdict, run_checks
from services.core.settings import AuthSettings
from tests.support.app import AppWorld
from tests.support.doctor import FakeIngress, build_context, serve_ingress

SECRET = "hidden-path-of-16"


@pytest.fixture
def ingress() -> Iterator[FakeIngress]:
    with serve_ingress(FakeIngress()) as found:
        yield found


def found(known: Context) -> dict[str, Finding]:
    return {one.name: one for one in run_checks([[*reach.CHECKS, *doors.CHECKS]], known)}


def verdicts(known: Context) -> dict[str, Verdict]:
    return {name: one.verdict for name, one in found(known).items()}


def test_a_good_url_is_good_in_every_way(ingress: FakeIngress, tmp_path: Path) -> None:
    said = verdicts(build_context(tmp_path, ingress.url))
    assert said.pop("open doors") is Verdict.WARN, "nobody is kept out"
    assert set(said.values()) == {Verdict.OK}


async def test_fitloop_answers_as_the_checks_take_for_good(tmp_path: Path) -> None:
    async with AppWorld(tmp_path) as world:
        assert (await world.client.get("/health")).json()["model_class"] == "Fitloop"
        refused = await world.client.post("/setup", json={})
        assert (refused.status_code, "detail" in refused.json()) == (400, True)
        assert await world.predict([{"id": 1}, {"id": 2}], "0.0") == [[], []]
        assert (await world.client.get("/versions")).json() == {"versions": []}
        assert (await world.client.post("/webhook", json={})).status_code == 200
        assert world.events.remembered == {}
        assert world.events.notified == []


@pytest.mark.parametrize(
    ("status", "verdict"), [(301, Verdict.FAIL), (302, Verdict.FAIL), (308, Verdict.WARN)]
)
def test_a_redirect_is_named_with_its_target(
    ingress: FakeIngress, tmp_path: Path, status: int, verdict: Verdict
) -> None:
    ingress.status, ingress.location = status, "https://models.example.com"
    said = found(build_context(tmp_path, ingress.url))
    assert said["reach"].verdict is verdict
    assert f"({status}) to https://models.example.com/health" in said["reach"].sentence
    if verdict is Verdict.FAIL:
        assert said["health"] == Finding(Verdict.SKIPPED, "The check 'reach' failed.", name="health")
    else:
        assert "is redirected" in said["health"].sentence


def test_a_small_limit_of_the_ingress_is_seen(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.most = 1 << 20
    said = found(build_context(tmp_path, ingress.url))["body size"]
    assert said.verdict is Verdict.FAIL
    assert "(413)" in said.sentence
    assert "ingress.bodySize" in said.advice


def test_who_is_slower_than_label_studio_waits_fails(
    ingress: FakeIngress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "HEALTH_SECONDS", 0.0)
    said = found(build_context(tmp_path, ingress.url))["health"]
    assert said.verdict is Verdict.FAIL
    assert len([path for _, path in ingress.asked if path == "/health"]) == 2, "too slow once is enough"


def test_another_server_and_an_empty_ingress_are_told_apart(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.is_fitloop = False
    said = found(build_context(tmp_path, ingress.url))
    assert {said[name].verdict for name in ("health", "setup", "credentials", "body size")} == {Verdict.FAIL}
    assert "is not Fitloop (status 200)" in said["health"].sentence
    ingress.is_fitloop, ingress.status = True, 503
    assert "no adapter is ready behind it" in found(build_context(tmp_path, ingress.url))["health"].sentence


def test_nothing_answers(tmp_path: Path) -> None:
    said = found(build_context(tmp_path, "http://127.0.0.1:9"))
    assert said["reach"].verdict is Verdict.FAIL
    assert "cannot be reached from here (connection refused)" in said["reach"].sentence
    said = found(build_context(tmp_path, "http://127.0.0.1:9", Location.POD))
    assert said["reach"].verdict is Verdict.SKIPPED, "a pod may not reach its own ingress"
    assert said["body size"].sentence == "The check 'reach' was skipped."


class TestCredentials:
    @pytest.fixture
    def auth(self, ingress: FakeIngress) -> AuthSettings:
        ingress.authorization = "Basic " + base64.b64encode(b"u:p").decode()
        return AuthSettings(username="u", password=SecretStr("p"))

    def test_a_password_without_a_way_for_webhooks_fails(
        self, ingress: FakeIngress, auth: AuthSettings, tmp_path: Path
    ) -> None:
        said = found(build_context(tmp_path, ingress.url, auth=auth))
        assert said["setup"].verdict is Verdict.OK
        assert said["credentials"].verdict is Verdict.FAIL
        assert "webhooks carry none" in said["credentials"].sentence

    def test_in_the_url_they_are_for_webhooks_too(
        self, ingress: FakeIngress, auth: AuthSettings, tmp_path: Path
    ) -> None:
        said = found(build_context(tmp_path, ingress.url.replace("//", "//u:p@"), auth=auth))
        assert {one.verdict for one in said.values()} == {Verdict.OK}
        assert not any("u:p" in one.sentence + one.advice for one in said.values())

    def test_wrong_ones_fail(self, ingress: FakeIngress, auth: AuthSettings, tmp_path: Path) -> None:
        said = found(
            build_context(tmp_path, ingress.url, auth=AuthSettings(username="u", password=SecretStr("q")))
        )
        assert said["setup"].verdict is Verdict.FAIL
        assert "Neither the URL's credentials nor" in said["credentials"].sentence

    def test_a_secret_path_stands_for_them(self, ingress: FakeIngress, tmp_path: Path) -> None:
        ingress.secret = SECRET
        said = found(
            build_context(tmp_path, f"{ingress.url}/{SECRET}", auth=AuthSettings(secret_path=SECRET))
        )
        assert {one.verdict for one in said.values()} == {Verdict.OK}
        assert said["credentials"].sentence.startswith(
            "The secret path in the URL lets Label Studio in without a password"
        )


def test_without_a_url_or_with_a_name_that_only_pods_know_nothing_is_called(tmp_path: Path) -> None:
    assert set(verdicts(build_context(tmp_path)).values()) == {Verdict.SKIPPED}
    known = build_context(tmp_path, "http://fitloop.here.svc:80", Location.LAPTOP)
    assert found(known)["url"].verdict is Verdict.OK
    assert "kubectl -n" in found(known)["reach"].advice


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9090",
        "http://10.0.0.1",
        "http://[::1]:9090",
        "https://a.default/x",
        "http://fitloop.team-a.svc.cluster.local.",
        "http://user:pass@host.docker.internal",
        "http://xn--bcher-kva.example",
    ],
)
def test_urls_that_django_takes(url: str) -> None:
    assert problem_of(url) == ""


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://ml-backend:9090", "is one word"),
        ("http://a.ns1", "letters alone"),
        ("http://my_model.x.example", "'_'"),
        ("http://a.b/?x=1", "'?'"),
        ("http://a.example/health", "ends in a route"),
        ("a.example", "http://<host>"),
        ("http://a.example:port", "cannot be read"),
    ],
)
def test_urls_that_django_refuses_or_that_cannot_work(url: str, why: str, tmp_path: Path) -> None:
    assert why in problem_of(url)
    assert reach.url_is_valid(build_context(tmp_path, url)).verdict is Verdict.FAIL


def test_addresses() -> None:
    assert [is_private(one) for one in ("10.1.2.3", "100.64.0.1", "fe80::1%eth0", "8.8.8.8")] == [
        True,
        True,
        True,
        False,
    ]
    assert [is_cluster_local(f"http://{one}") for one in ("a.b.svc", "minio", "a.example", "10.1.1.1")] == [
        True,
        True,
        False,
        False,
    ]
    assert host_and_path("https://u:p@a.example/x/") == ("a.example:443", "/x")
    assert redact_url("http://u:p@a.example/hidden/x?token=1", "hidden") == "http://a.example/<secret>/x"
