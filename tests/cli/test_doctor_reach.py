"""The URL as Label Studio calls it, over real HTTP: each fault of an ingress is found."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.cli.checks import (
    Context,
    Finding,
    Location,
    Verdict,
    access,
    host_and_path,
    is_cluster_local,
    is_private,
    reach,
    redact_url,
    run_checks,
)
from services.core.labelstudio.access import backend_url_problem
from services.core.settings import AuthSettings
from tests.support.app import AppWorld
from tests.support.doctor import FakeIngress, build_context, serve_ingress

SECRET = "hidden-path-of-16"


@pytest.fixture
def ingress() -> Iterator[FakeIngress]:
    with serve_ingress(FakeIngress()) as found:
        yield found


def find(known: Context) -> dict[str, Finding]:
    checks = [*reach.CHECKS, access.CREDENTIALS, reach.BODY_SIZE, access.ANONYMOUS_ACCESS]
    return {one.name: one for one in run_checks([checks], known)}


def test_a_good_url_passes_every_check(ingress: FakeIngress, tmp_path: Path) -> None:
    found = find(build_context(tmp_path, ingress.url))
    assert found.pop("open doors").verdict is Verdict.WARN, "it asks for no credentials"
    assert {one.verdict for one in found.values()} == {Verdict.OK}
    assert found["reach"].message == "It answers and redirects nothing."
    assert found["body size"].message == "A /predict of 2 MB is accepted."
    assert found["credentials"].message == "Label Studio needs no credentials at this URL."


async def test_the_real_app_answers_as_the_checks_expect(tmp_path: Path) -> None:
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
def test_a_redirect_is_reported_with_its_target(
    ingress: FakeIngress, tmp_path: Path, status: int, verdict: Verdict
) -> None:
    ingress.status, ingress.location = status, "https://models.example.com"
    found = find(build_context(tmp_path, ingress.url))
    assert found["reach"].verdict is verdict
    assert f"({status}) to https://models.example.com/health" in found["reach"].message
    if verdict is Verdict.FAIL:
        assert found["health"] == Finding(Verdict.SKIPPED, "The check 'reach' failed.", name="health")
    else:
        assert found["health"].verdict is Verdict.FAIL


def test_a_small_body_limit_of_the_ingress_is_found(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.most = 1 << 20
    found = find(build_context(tmp_path, ingress.url))["body size"]
    assert found.verdict is Verdict.FAIL
    assert found.message.startswith("A /predict of 2 MB is refused (413); 'Retrieve predictions'")


def test_an_answer_slower_than_label_studios_limit_fails(
    ingress: FakeIngress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "HEALTH_SECONDS", 0.0)
    found = find(build_context(tmp_path, ingress.url))["health"]
    assert found.verdict is Verdict.FAIL
    assert len([path for _, path in ingress.asked if path == "/health"]) == 2, "too slow once is enough"


def test_another_server_and_an_unready_adapter_differ(ingress: FakeIngress, tmp_path: Path) -> None:
    ingress.is_fitloop = False
    found = find(build_context(tmp_path, ingress.url))
    assert {found[name].verdict for name in ("health", "setup", "credentials", "body size")} == {Verdict.FAIL}
    assert found["health"].message == (
        f"The server that answers /health at {ingress.url} is not Fitloop (status 200)."
    )
    ingress.is_fitloop, ingress.status = True, 503
    found = find(build_context(tmp_path, ingress.url))
    assert (
        found["health"].message == f"{ingress.url} answers /health with 503: no adapter behind it is ready."
    )


def test_a_url_that_does_not_answer(tmp_path: Path) -> None:
    found = find(build_context(tmp_path, "http://127.0.0.1:9"))
    assert found["reach"].verdict is Verdict.FAIL
    assert found["reach"].message == "http://127.0.0.1:9 cannot be reached from here (connection refused)."
    found = find(build_context(tmp_path, "http://127.0.0.1:9", Location.POD))
    assert found["reach"].verdict is Verdict.SKIPPED, "a pod may be unable to reach its own ingress"
    assert found["body size"].verdict is Verdict.SKIPPED


class TestCredentials:
    @pytest.fixture
    def auth(self, ingress: FakeIngress) -> AuthSettings:
        ingress.authorization = "Basic " + base64.b64encode(b"u:p").decode()
        return AuthSettings(username="u", password=SecretStr("p"))

    def test_a_password_that_webhooks_cannot_send_fails(
        self, ingress: FakeIngress, auth: AuthSettings, tmp_path: Path
    ) -> None:
        found = find(build_context(tmp_path, ingress.url, auth=auth))
        assert found["setup"].verdict is Verdict.OK
        assert found["credentials"].verdict is Verdict.FAIL
        assert found["credentials"].message == (
            "A password is required, but Label Studio's webhooks send none: they would be refused."
        )

    def test_credentials_in_the_url_serve_webhooks_too(
        self, ingress: FakeIngress, auth: AuthSettings, tmp_path: Path
    ) -> None:
        found = find(build_context(tmp_path, ingress.url.replace("//", "//u:p@"), auth=auth))
        assert {one.verdict for one in found.values()} == {Verdict.OK}
        assert not any("u:p" in one.message + one.advice for one in found.values())

    def test_wrong_credentials_fail(self, ingress: FakeIngress, auth: AuthSettings, tmp_path: Path) -> None:
        found = find(
            build_context(tmp_path, ingress.url, auth=AuthSettings(username="u", password=SecretStr("q")))
        )
        assert found["setup"].verdict is Verdict.FAIL
        assert found["credentials"].message == (
            "Neither the credentials in the URL nor BASIC_AUTH_USER and BASIC_AUTH_PASS are accepted."
        )

    def test_a_secret_path_replaces_credentials(self, ingress: FakeIngress, tmp_path: Path) -> None:
        ingress.secret = SECRET
        found = find(
            build_context(tmp_path, f"{ingress.url}/{SECRET}", auth=AuthSettings(secret_path=SECRET))
        )
        assert {one.verdict for one in found.values()} == {Verdict.OK}
        assert found["credentials"].message == (
            "The secret path in the URL admits Label Studio and its webhooks without a password."
        )


def test_an_unknown_or_cluster_local_url_is_not_called(tmp_path: Path) -> None:
    assert {one.verdict for one in find(build_context(tmp_path)).values()} == {Verdict.SKIPPED}
    known = build_context(tmp_path, "http://fitloop.here.svc:80", Location.LAPTOP)
    assert find(known)["url"].verdict is Verdict.OK
    assert "kubectl -n" in find(known)["reach"].advice


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
def test_urls_that_django_accepts(url: str) -> None:
    assert backend_url_problem(url) == ""


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://ml-backend:9090", "is one word"),
        ("http://a.ns1", "letters only"),
        ("http://my_model.x.example", "'_'"),
        ("http://a.b/?x=1", "'?'"),
        ("http://a.example/health", "ends in a route"),
        ("a.example", "http://<host>"),
        ("http://a.example:port", "cannot be read"),
    ],
)
def test_urls_that_django_refuses_fail(url: str, why: str, tmp_path: Path) -> None:
    assert why in backend_url_problem(url)
    assert reach.url_is_valid(build_context(tmp_path, url)).verdict is Verdict.FAIL


def test_hosts_are_classified_and_urls_redacted() -> None:
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
