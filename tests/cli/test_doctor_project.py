"""Label Studio, its token, and each project: what the doctor finds."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import respx
from pydantic import SecretStr

from services.cli.checks import (
    Context,
    Finding,
    Location,
    Verdict,
    label_studio,
    project,
    reach,
    run_checks,
    webhook,
)
from services.core.labelstudio.access import backend_url_problem
from services.core.settings import LabelStudioSettings, Settings, TriggerSettings
from tests.support.doctor import LABEL_STUDIO_URL, FakeIngress, build_context, serve_ingress

CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text"><Choice value="a"/><Choice value="b"/>'
    "</Choices></View>"
)
ROW = {
    "id": 5,
    "title": "Support",
    "label_config": CONFIG,
    "created_at": "2026-11-25T02:23:54Z",
    "task_number": 9,
}


class FakeStudio:
    """A Label Studio with project 5. `fires`: whether its webhook sends events."""

    def __init__(self, router: respx.MockRouter, ingress: FakeIngress) -> None:
        self.router, self.ingress = router, ingress
        self.fires = True
        self.backends: list[dict[str, Any]] = [{"url": ingress.url, "state": "CO", "error_message": None}]
        self.hooks: list[dict[str, Any]] = [self.hook()]
        self.row = dict(ROW)
        router.get("/api/version/").respond(json={"release": "1.23.2"})
        router.get("/api/projects/").respond(json={"results": []})
        router.get("/api/projects/5/").mock(side_effect=lambda _: httpx.Response(200, json=self.row))
        router.patch("/api/projects/5/", json={"title": "Support"}).mock(side_effect=self.patched)
        router.post("/api/projects/5/import/predictions", json=[]).respond(201, json={"created": 0})
        router.get("/api/tasks/").respond(json={"tasks": [], "total": 0})
        router.get("/api/ml/").mock(side_effect=lambda _: httpx.Response(200, json=self.backends))
        router.get("/api/webhooks/").mock(side_effect=lambda _: httpx.Response(200, json=self.hooks))
        router.route(host="127.0.0.1").pass_through()

    def hook(self, **changes: Any) -> dict[str, Any]:
        good = {
            "is_active": True,
            "send_payload": True,
            "send_for_all_actions": True,
            "actions": [],
            "headers": {},
        }
        return {"url": f"{self.ingress.url}/webhook", **good, **changes}

    def patched(self, _: httpx.Request) -> httpx.Response:
        self.ingress.events += self.fires
        return httpx.Response(200, json=self.row)


@pytest.fixture
def studio() -> Iterator[FakeStudio]:
    ingress = FakeIngress(
        project={"id": 5, "problem": "", "sentence": "All is quiet.", "served": {"current": "v-1"}}
    )
    with serve_ingress(ingress), respx.mock(base_url=LABEL_STUDIO_URL, assert_all_called=False) as router:
        yield FakeStudio(router, ingress)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_EVENT_SECONDS", 0.1)


def find(known: Context) -> dict[str, Finding]:
    checks = [*label_studio.CHECKS, *project.checks(known), webhook.PRIVATE_ADDRESS]
    return {one.name.removeprefix("project 5: "): one for one in run_checks([checks], known)}


def test_counters_that_are_too_low_are_reported(tmp_path: Path, studio: FakeStudio) -> None:
    studio.row["total_annotations_number"] = 300
    found = find(build_context(tmp_path, studio.ingress.url))["found"]
    assert found.verdict is Verdict.WARN
    assert "'Support' has 300 annotations, and its tasks' own counters say 0" in found.message
    assert "calculate_stats_all_orgs" in found.advice


def test_a_healthy_project_passes_every_check(studio: FakeStudio, tmp_path: Path) -> None:
    found = find(build_context(tmp_path, studio.ingress.url))
    assert {one.verdict for one in found.values()} == {Verdict.OK}
    assert found["label studio"].message == f"Label Studio 1.23.2 answers at {LABEL_STUDIO_URL}."
    assert found["found"].message == "'Support', 0 of 9 tasks labelled."
    assert found["rights"].message == "The token's user can read tasks and store predictions."
    assert found["backend"].message == f"Label Studio reaches {studio.ingress.url}."
    assert found["webhook"].message == "The webhook exists, is enabled, and sends the required events."
    assert found["event"].message == "An event arrived after the project's title was saved unchanged."
    assert found["state"].message == "Serving v-1. All is quiet."
    assert found["private address"].message == (
        "127.0.0.1 is a private address, but Label Studio calls it nevertheless."
    )


def test_a_backend_with_another_url_fails(studio: FakeStudio, tmp_path: Path) -> None:
    found = find(build_context(tmp_path, "http://models.example.com"))
    assert found["backend"].verdict is Verdict.FAIL
    assert found["backend"].message == (
        f"The project's ML backend is {studio.ingress.url}, not http://models.example.com."
    )
    assert found["webhook"].verdict is Verdict.SKIPPED


def test_a_project_without_a_backend_fails(studio: FakeStudio, tmp_path: Path) -> None:
    studio.backends = []
    found = find(build_context(tmp_path, studio.ingress.url))
    verdicts = [found[name].verdict for name in ("backend", "webhook", "event")]
    assert verdicts == [Verdict.FAIL, Verdict.SKIPPED, Verdict.SKIPPED]
    assert found["backend"].message == "The project has no ML backend."


def test_an_unreachable_backends_error_shows_no_credentials(studio: FakeStudio, tmp_path: Path) -> None:
    why = "500 Server Error: for url: http://u:pw@127.0.0.1/health"
    studio.backends[0].update(state="DI", error_message=why)
    found = find(build_context(tmp_path, studio.ingress.url))["backend"]
    assert found.verdict is Verdict.FAIL
    assert found.message == (
        f"Label Studio cannot reach {studio.ingress.url}: 500 Server Error: for url: http://127.0.0.1/health."
    )


def test_a_host_of_one_word_fails_even_if_it_is_reached(studio: FakeStudio, tmp_path: Path) -> None:
    studio.backends = [{"url": "http://fitloop:9090", "state": "CO"}]
    studio.hooks = []
    found = find(build_context(tmp_path, "http://fitloop:9090"))
    assert found["backend"].verdict is Verdict.FAIL
    assert backend_url_problem("http://fitloop:9090")[1:] in found["webhook"].advice


def test_a_backend_that_is_not_the_first_is_a_warning(studio: FakeStudio, tmp_path: Path) -> None:
    studio.backends.insert(0, {"url": "http://other.example", "state": "CO"})
    assert find(build_context(tmp_path, studio.ingress.url))["backend"].verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"is_active": False}, "Its webhook is disabled."),
        ({"send_payload": False}, "Its webhook sends no payload, so its events do not name the project."),
        (
            {"send_for_all_actions": False, "actions": ["TASKS_CREATED"]},
            "Its webhook does not send ANNOTATION_CREATED, ",
        ),
    ],
)
def test_a_changed_webhook_fails(
    studio: FakeStudio, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    studio.hooks = [studio.hook(**change)]
    answer = find(build_context(tmp_path, studio.ingress.url))["webhook"]
    assert answer.verdict is Verdict.FAIL
    assert answer.message.startswith(sentence)


def test_a_missing_or_refused_webhook_fails(studio: FakeStudio, tmp_path: Path) -> None:
    studio.hooks = []
    found = find(build_context(tmp_path, studio.ingress.url))
    assert found["webhook"].message == (
        f"The project has no webhook to {studio.ingress.url}/webhook, so new labels are noticed only at the next poll."
    )
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in found["webhook"].advice
    studio.hooks, studio.ingress.authorization = [studio.hook()], "Basic eA=="
    refused = webhook.webhook(build_context(tmp_path, studio.ingress.url), 5)
    assert refused.message == "Its events are refused (401): webhooks send no password."
    studio.hooks = [studio.hook(headers={"Authorization": "Basic eA=="})]
    assert webhook.webhook(build_context(tmp_path, studio.ingress.url), 5).verdict is Verdict.OK


def test_a_lost_or_refused_event_fails(studio: FakeStudio, tmp_path: Path) -> None:
    studio.fires = False
    found = find(build_context(tmp_path, studio.ingress.url))
    assert found["event"].verdict is Verdict.FAIL
    assert found["private address"].verdict is Verdict.WARN
    count = studio.patched

    def refuse(request: httpx.Request) -> httpx.Response:
        studio.ingress.refused += 1
        return count(request)

    studio.router.patch("/api/projects/5/", json={"title": "Support"}).mock(side_effect=refuse)
    finding = webhook.event(build_context(tmp_path, studio.ingress.url), 5)
    assert finding.message == "The event arrived but was refused: webhooks send no password."


def test_missing_rights_are_named(studio: FakeStudio, tmp_path: Path) -> None:
    gone = {"status_code": 404, "detail": "No Project matches the given query."}
    known = build_context(tmp_path, studio.ingress.url)
    studio.router.patch("/api/projects/5/", json={"title": "Support"}).respond(403, json={})
    assert "title could not be saved (unchanged)." in webhook.event(known, 5).message
    studio.router.post("/api/projects/5/import/predictions", json=[]).respond(403, json={})
    assert project.rights(known, 5).message.startswith("Predictions cannot be stored.")
    studio.router.get("/api/tasks/").respond(403, json={})
    assert project.rights(known, 5).message.startswith("Tasks cannot be read.")
    studio.router.get("/api/projects/5/").respond(404, json=gone)
    found = find(known)
    assert found["found"].verdict is Verdict.FAIL
    assert found["backend"].verdict is Verdict.SKIPPED


def test_a_label_config_without_text_choices_fails(studio: FakeStudio, tmp_path: Path) -> None:
    studio.row["label_config"] = '<View><Image name="i" value="$i"/></View>'
    assert find(build_context(tmp_path, studio.ingress.url))["question"].verdict is Verdict.FAIL


def test_a_class_of_the_users_reads_any_label_config(studio: FakeStudio, tmp_path: Path) -> None:
    studio.row["label_config"] = '<View><Image name="i" value="$i"/></View>'
    own = {5: {"method": "label-studio-ml", "model": "boxes.model:Boxes"}}
    known = build_context(tmp_path, studio.ingress.url, trigger=TriggerSettings(projects=own))
    assert project.question(known, 5).message == "boxes.model:Boxes reads it, whatever it asks."


def test_the_control_comes_from_the_backend_or_settings(studio: FakeStudio, tmp_path: Path) -> None:
    studio.row["label_config"] = CONFIG.replace(
        "</View>", '<Choices name="mood" toName="text"><Choice value="glad"/></Choices></View>'
    )
    known = build_context(tmp_path, studio.ingress.url, trigger=TriggerSettings(controls="mood"))
    assert project.question(known, 5).message.startswith("Choices 'mood' over Text")
    studio.backends[0]["extra_params"] = {"control": "topic"}
    assert project.question(known, 5).verdict is Verdict.FAIL


def test_problems_that_fitloop_reports_are_warnings(studio: FakeStudio, tmp_path: Path) -> None:
    known = build_context(tmp_path, studio.ingress.url)
    studio.ingress.project["problem"] = "Its token was refused."
    assert project.state(known, 5).message == "Fitloop reports: Its token was refused."
    studio.ingress.project.clear()
    assert project.state(known, 5).message == "Fitloop is not connected to the project yet."


def test_a_project_without_countable_labels_is_a_warning(studio: FakeStudio, tmp_path: Path) -> None:
    known, words = build_context(tmp_path, studio.ingress.url), "3 annotations do not count: skipped."
    studio.ingress.project.update(labelled=0, not_counted_in_words=words)
    found = project.state(known, 5)
    assert (found.verdict, found.message) == (Verdict.WARN, f"No label counts. {words}")
    studio.ingress.project["labelled"] = 9
    found = project.state(known, 5)
    assert (found.verdict, found.message) == (Verdict.OK, f"Serving v-1. All is quiet. {words}")


def test_a_private_address_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known_as(address: str) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", (address, 0))])

    known_as("8.8.8.8")
    assert webhook.private_address(build_context(tmp_path, "http://a.example")).verdict is Verdict.OK
    known_as("10.1.2.3")
    finding = webhook.private_address(build_context(tmp_path, "http://a.example"))
    assert finding.verdict is Verdict.WARN
    assert finding.message == (
        "a.example (10.1.2.3) is a private address, which Label Studio 1.23.1 and later refuse by default."
    )
    assert webhook.private_address(build_context(tmp_path)).verdict is Verdict.SKIPPED

    def unknown(*_: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert webhook.private_address(build_context(tmp_path, "http://a.example")).verdict is Verdict.SKIPPED
    assert (
        webhook.private_address(build_context(tmp_path, "http://a.example", Location.POD)).verdict
        is Verdict.FAIL
    )


class TestProof:
    """What Label Studio reaches counts more than what can be resolved or reached from here."""

    @pytest.fixture
    def unknown(self, studio: FakeStudio) -> str:
        studio.ingress.url = "http://fitloop.invalid"
        studio.backends = [{"url": studio.ingress.url, "state": "CO", "error_message": None}]
        studio.router.route(host="fitloop.invalid").mock(side_effect=httpx.ConnectError("no"))
        return studio.ingress.url

    def test_an_unresolved_name_that_label_studio_reaches_passes(
        self, studio: FakeStudio, tmp_path: Path, unknown: str
    ) -> None:
        known = build_context(tmp_path, unknown, Location.POD)
        found = webhook.private_address(known)
        assert found.verdict is Verdict.OK
        assert found.message == (
            "'fitloop.invalid' does not resolve here, but Label Studio reaches it, which is what counts."
        )
        checked = {one.name: one for one in run_checks([list(reach.CHECKS)], known)}
        assert checked["reach"].verdict is Verdict.SKIPPED
        assert checked["reach"].message == (
            f"{unknown} cannot be reached from here, but Label Studio reaches it, which is what counts."
        )
        assert not [one for one in checked.values() if one.verdict is Verdict.FAIL]

    def test_an_event_proves_that_label_studio_reaches_it(
        self, studio: FakeStudio, tmp_path: Path, unknown: str
    ) -> None:
        studio.backends = []
        known = build_context(tmp_path, unknown, Location.POD)
        assert webhook.private_address(known).verdict is Verdict.FAIL
        known.events_seen[5] = True
        assert webhook.private_address(known).verdict is Verdict.OK

    @pytest.mark.parametrize("state", ["DI", "ER", ""])
    def test_an_unresolved_name_without_proof_fails(
        self, studio: FakeStudio, tmp_path: Path, unknown: str, state: str
    ) -> None:
        studio.backends[0]["state"] = state
        assert webhook.private_address(build_context(tmp_path, unknown, Location.POD)).verdict is Verdict.FAIL

    def test_another_server_at_the_name_inside_a_cluster_is_skipped(
        self, studio: FakeStudio, tmp_path: Path
    ) -> None:
        studio.ingress.is_fitloop = False
        found = reach.health(build_context(tmp_path, studio.ingress.url, Location.POD))
        assert found.verdict is Verdict.SKIPPED
        assert found.message.endswith("but Label Studio reaches Fitloop there.")


class TestLabelStudio:
    def with_key(
        self, folder: Path, key: str, where: Location = Location.MACHINE, url: str = LABEL_STUDIO_URL
    ) -> Context:
        known = build_context(folder, where=where)
        settings = Settings(label_studio=LabelStudioSettings(url=url, api_key=SecretStr(key)))
        return Context(settings, where, "", (5,), known.adapters)

    @pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # in label-studio-sdk
    def test_each_kind_of_token(self, studio: FakeStudio, tmp_path: Path) -> None:
        def token(kind: str, days: float) -> str:
            claims = {"token_type": kind, "exp": time.time() + days * 86_400}
            return jwt.encode(claims, "a key that is long enough for HS256", "HS256")

        studio.router.post("/api/token/refresh/").respond(json={"access": token("access", 1)})
        look = label_studio.token
        assert look(self.with_key(tmp_path, "")).verdict is Verdict.FAIL
        assert look(self.with_key(tmp_path, "0" * 40)).message == "The legacy token is accepted."
        assert look(self.with_key(tmp_path, token("access", 1))).message == (
            "LABEL_STUDIO_API_KEY is an access token, which expires within minutes."
        )
        assert (
            look(self.with_key(tmp_path, token("refresh", 100))).message
            == "The personal access token is accepted."
        )
        soon = look(self.with_key(tmp_path, token("refresh", 3)))
        assert soon.verdict is Verdict.WARN
        assert soon.message == "The personal access token is accepted but expires in 3 days."

    def test_a_refused_token_fails_and_skips_the_projects(self, studio: FakeStudio, tmp_path: Path) -> None:
        studio.router.get("/api/projects/").respond(401, json={})
        found = find(self.with_key(tmp_path, "0" * 40))
        assert found["token"].verdict is Verdict.FAIL
        assert found["token"].advice.startswith("It is a legacy token, or an incomplete token.")
        assert found["found"].verdict is Verdict.SKIPPED

    def test_another_server_at_label_studios_address_fails(self, studio: FakeStudio, tmp_path: Path) -> None:
        studio.router.get("/api/version/").respond(json=["hello"])
        assert label_studio.reachable(self.with_key(tmp_path, "0" * 40)).verdict is Verdict.FAIL
        studio.router.get("/api/version/").respond(404)
        assert label_studio.reachable(self.with_key(tmp_path, "0" * 40)).message == (
            f"The server at {LABEL_STUDIO_URL} is not Label Studio (status 404)."
        )
        studio.router.get("/api/version/").mock(side_effect=httpx.ConnectError("no"))
        found = find(self.with_key(tmp_path, "0" * 40))
        assert found["label studio"].verdict is Verdict.FAIL
        assert {found[name].verdict for name in ("token", "found", "event")} == {Verdict.SKIPPED}

    def test_a_laptop_skips_what_only_pods_can_reach(self, studio: FakeStudio, tmp_path: Path) -> None:
        for known in (
            self.with_key(tmp_path, "0" * 40, Location.LAPTOP, "http://ls.tools.svc:8080"),
            self.with_key(tmp_path, "", Location.LAPTOP),
        ):
            found = find(known)
            assert "kubectl -n" in found["label studio"].advice
            assert found["in label studio"].verdict is Verdict.SKIPPED
            assert "question" not in found

    def test_without_a_project_one_check_is_skipped(self, studio: FakeStudio, tmp_path: Path) -> None:
        known = self.with_key(tmp_path, "0" * 40)
        known = Context(known.settings, known.location, "", (), known.adapters)
        assert find(known)["projects"].verdict is Verdict.SKIPPED


def test_the_default_url_is_that_of_the_only_backend(studio: FakeStudio, tmp_path: Path) -> None:
    assert label_studio.sole_backend_url(build_context(tmp_path)) == studio.ingress.url
    studio.backends.append({"url": "http://other.example"})
    assert label_studio.sole_backend_url(build_context(tmp_path)) == ""
