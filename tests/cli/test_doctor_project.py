"""Label Studio, its token, and each project: which sentence each trap becomes."""

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

from services.cli.checks import label_studio, project, reach, webhook
from services.cli.checks.context import Context, Location
from services.cli.checks.finding import Finding, Verdict, run_checks
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


class Studio:
    """A Label Studio with project 5, whose webhook fires as it is told."""

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
def studio() -> Iterator[Studio]:
    ingress = FakeIngress(
        project={"id": 5, "problem": "", "sentence": "All is quiet.", "served": {"current": "v-1"}}
    )
    with serve_ingress(ingress), respx.mock(base_url=LABEL_STUDIO_URL, assert_all_called=False) as router:
        yield Studio(router, ingress)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_EVENT_SECONDS", 0.1)


def found(known: Context) -> dict[str, Finding]:
    checks = [*label_studio.CHECKS, *project.checks(known), webhook.PRIVATE_ADDRESS]
    return {one.name.removeprefix("project 5: "): one for one in run_checks([checks], known)}


def test_a_project_in_order(studio: Studio, tmp_path: Path) -> None:
    said = found(build_context(tmp_path, studio.ingress.url))
    assert {one.verdict for one in said.values()} == {Verdict.OK}
    assert said["label studio"].sentence == f"Label Studio 1.23.2 answers at {LABEL_STUDIO_URL}."
    assert said["found"].sentence == "It is 'Support', 0 of 9 tasks labelled."
    assert said["state"].sentence == "It is served v-1; All is quiet."
    assert "calls it all the same" in said["private address"].sentence


def test_a_backend_elsewhere_is_not_ours(studio: Studio, tmp_path: Path) -> None:
    said = found(build_context(tmp_path, "http://models.example.com"))
    assert said["backend"].verdict is Verdict.FAIL
    assert f"is {studio.ingress.url}, and not http://models.example.com" in said["backend"].sentence
    assert said["webhook"].verdict is Verdict.SKIPPED


def test_no_backend(studio: Studio, tmp_path: Path) -> None:
    studio.backends = []
    said = found(build_context(tmp_path, studio.ingress.url))
    assert (said["backend"].verdict, said["webhook"].verdict, said["event"].verdict) == (
        Verdict.FAIL,
        Verdict.SKIPPED,
        Verdict.SKIPPED,
    )


def test_a_backend_that_label_studio_does_not_reach_says_why_without_credentials(
    studio: Studio, tmp_path: Path
) -> None:
    why = "500 Server Error: for url: http://u:pw@127.0.0.1/health"
    studio.backends[0].update(state="DI", error_message=why)
    said = found(build_context(tmp_path, studio.ingress.url))["backend"]
    assert said.verdict is Verdict.FAIL
    assert said.sentence.endswith("500 Server Error: for url: http://127.0.0.1/health.")


def test_a_single_label_host_fails_though_label_studio_reaches_it(studio: Studio, tmp_path: Path) -> None:
    studio.backends = [{"url": "http://fitloop:9090", "state": "CO"}]
    studio.hooks = []
    said = found(build_context(tmp_path, "http://fitloop:9090"))
    assert "is one word" in said["backend"].sentence
    assert "is one word" in said["webhook"].advice.lower()


def test_a_second_backend_gets_no_predictions(studio: Studio, tmp_path: Path) -> None:
    studio.backends.insert(0, {"url": "http://other.example", "state": "CO"})
    assert found(build_context(tmp_path, studio.ingress.url))["backend"].verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_active": False}, "is switched off"),
        ({"send_payload": False}, "sends no payload"),
        ({"send_for_all_actions": False, "actions": ["TASKS_CREATED"]}, "does not send ANNOTATION_CREATED, "),
    ],
)
def test_a_webhook_that_is_not_as_it_was_made(
    studio: Studio, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    studio.hooks = [studio.hook(**change)]
    answer = found(build_context(tmp_path, studio.ingress.url))["webhook"]
    assert answer.verdict is Verdict.FAIL
    assert said in answer.sentence


def test_no_webhook_and_one_that_is_refused(studio: Studio, tmp_path: Path) -> None:
    studio.hooks = []
    said = found(build_context(tmp_path, studio.ingress.url))
    assert "no label will be noticed at once" in said["webhook"].sentence
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in said["webhook"].advice
    studio.hooks, studio.ingress.authorization = [studio.hook()], "Basic eA=="
    assert "(401)" in webhook.webhook(build_context(tmp_path, studio.ingress.url), 5).sentence
    studio.hooks = [studio.hook(headers={"Authorization": "Basic eA=="})]
    assert webhook.webhook(build_context(tmp_path, studio.ingress.url), 5).verdict is Verdict.OK


def test_an_event_that_does_not_come_and_one_that_is_refused(studio: Studio, tmp_path: Path) -> None:
    studio.fires = False
    said = found(build_context(tmp_path, studio.ingress.url))
    assert said["event"].verdict is Verdict.FAIL
    assert said["private address"].verdict is Verdict.WARN
    count = studio.patched

    def refuse(request: httpx.Request) -> httpx.Response:
        studio.ingress.refused += 1
        return count(request)

    studio.router.patch("/api/projects/5/", json={"title": "Support"}).mock(side_effect=refuse)
    assert "was refused" in webhook.event(build_context(tmp_path, studio.ingress.url), 5).sentence


def test_a_project_that_may_not_be_seen_or_changed(studio: Studio, tmp_path: Path) -> None:
    gone = {"status_code": 404, "detail": "No Project matches the given query."}
    known = build_context(tmp_path, studio.ingress.url)
    studio.router.patch("/api/projects/5/", json={"title": "Support"}).respond(403, json={})
    assert "could not be given its own title" in webhook.event(known, 5).sentence
    studio.router.post("/api/projects/5/import/predictions", json=[]).respond(403, json={})
    assert project.rights(known, 5).sentence.startswith("Predictions cannot be stored.")
    studio.router.get("/api/tasks/").respond(403, json={})
    assert project.rights(known, 5).sentence.startswith("Tasks cannot be read.")
    studio.router.get("/api/projects/5/").respond(404, json=gone)
    said = found(known)
    assert said["found"].verdict is Verdict.FAIL
    assert said["backend"].sentence == "The check 'project 5: found' failed."


def test_a_question_that_is_none_of_ours(studio: Studio, tmp_path: Path) -> None:
    studio.row["label_config"] = '<View><Image name="i" value="$i"/></View>'
    assert found(build_context(tmp_path, studio.ingress.url))["question"].verdict is Verdict.FAIL


def test_the_question_is_that_of_the_control_that_settings_name(studio: Studio, tmp_path: Path) -> None:
    studio.row["label_config"] = CONFIG.replace(
        "</View>", '<Choices name="mood" toName="text"><Choice value="glad"/></Choices></View>'
    )
    known = build_context(tmp_path, studio.ingress.url, trigger=TriggerSettings(controls="mood"))
    assert project.question(known, 5).sentence.startswith("Choices 'mood' over Text")
    studio.backends[0]["extra_params"] = {"control": "topic"}
    assert (
        "'topic' is to be learnt, and the label config has no control" in project.question(known, 5).sentence
    )


def test_what_fitloop_says_of_the_project(studio: Studio, tmp_path: Path) -> None:
    known = build_context(tmp_path, studio.ingress.url)
    studio.ingress.project["problem"] = "Its token was refused."
    assert project.state(known, 5).sentence == "Fitloop says: Its token was refused."
    studio.ingress.project.clear()
    assert "does not look after it yet" in project.state(known, 5).sentence


def test_labels_none_of_which_counts_are_a_warning_and_a_few_are_told(studio: Studio, tmp_path: Path) -> None:
    known, words = build_context(tmp_path, studio.ingress.url), "3 annotations do not count: skipped."
    studio.ingress.project.update(labelled=0, not_counted_in_words=words)
    said = project.state(known, 5)
    assert (said.verdict, said.sentence) == (Verdict.WARN, f"No label counts. {words}")
    studio.ingress.project["labelled"] = 9
    said = project.state(known, 5)
    assert (said.verdict, said.sentence) == (Verdict.OK, f"It is served v-1; All is quiet. {words}")


def test_a_private_address_needs_an_event_or_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known_as(address: str) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", (address, 0))])

    known_as("8.8.8.8")
    assert webhook.private_address(build_context(tmp_path, "http://a.example")).verdict is Verdict.OK
    known_as("10.1.2.3")
    assert (
        "a.example (10.1.2.3) is a private address"
        in webhook.private_address(build_context(tmp_path, "http://a.example")).sentence
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
    """What Label Studio has proven outranks what can be resolved or reached from here."""

    @pytest.fixture
    def unknown(self, studio: Studio) -> str:
        studio.ingress.url = "http://fitloop.invalid"
        studio.backends = [{"url": studio.ingress.url, "state": "CO", "error_message": None}]
        studio.router.route(host="fitloop.invalid").mock(side_effect=httpx.ConnectError("no"))
        return studio.ingress.url

    def test_a_name_that_a_pod_does_not_know_fails_nothing(
        self, studio: Studio, tmp_path: Path, unknown: str
    ) -> None:
        known = build_context(tmp_path, unknown, Location.POD)
        said = webhook.private_address(known)
        assert said.verdict is Verdict.OK
        assert said.sentence == (
            "'fitloop.invalid' has no address here, and Label Studio reaches it: that is what counts."
        )
        checked = {one.name: one for one in run_checks([list(reach.CHECKS)], known)}
        assert checked["reach"].verdict is Verdict.SKIPPED
        assert "cannot be reached from here, and Label Studio reaches it" in checked["reach"].sentence
        assert not [one for one in checked.values() if one.verdict is Verdict.FAIL]

    def test_an_event_that_came_is_a_proof(self, studio: Studio, tmp_path: Path, unknown: str) -> None:
        studio.backends = []
        known = build_context(tmp_path, unknown, Location.POD)
        assert webhook.private_address(known).verdict is Verdict.FAIL
        known.events_seen[5] = True
        assert webhook.private_address(known).verdict is Verdict.OK

    @pytest.mark.parametrize("state", ["DI", "ER", ""])
    def test_without_a_proof_it_fails(self, studio: Studio, tmp_path: Path, unknown: str, state: str) -> None:
        studio.backends[0]["state"] = state
        assert webhook.private_address(build_context(tmp_path, unknown, Location.POD)).verdict is Verdict.FAIL

    def test_another_server_at_the_name_inside_the_cluster_is_not_believed(
        self, studio: Studio, tmp_path: Path
    ) -> None:
        studio.ingress.is_fitloop = False
        said = reach.health(build_context(tmp_path, studio.ingress.url, Location.POD))
        assert said.verdict is Verdict.SKIPPED
        assert "Label Studio reaches Fitloop there" in said.sentence


class TestLabelStudio:
    def with_key(
        self, folder: Path, key: str, where: Location = Location.MACHINE, url: str = LABEL_STUDIO_URL
    ) -> Context:
        known = build_context(folder, where=where)
        settings = Settings(label_studio=LabelStudioSettings(url=url, api_key=SecretStr(key)))
        return Context(settings, where, "", (5,), known.adapters)

    @pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # in label-studio-sdk
    def test_kinds_of_token(self, studio: Studio, tmp_path: Path) -> None:
        def token(kind: str, days: float) -> str:
            claims = {"token_type": kind, "exp": time.time() + days * 86_400}
            return jwt.encode(claims, "a key that is long enough for HS256", "HS256")

        studio.router.post("/api/token/refresh/").respond(json={"access": token("access", 1)})
        look = label_studio.token
        assert "is not set" in look(self.with_key(tmp_path, "")).sentence
        assert look(self.with_key(tmp_path, "0" * 40)).sentence == "The legacy token is taken."
        assert "access token" in look(self.with_key(tmp_path, token("access", 1))).sentence
        assert (
            look(self.with_key(tmp_path, token("refresh", 100))).sentence
            == "The personal access token is taken."
        )
        soon = look(self.with_key(tmp_path, token("refresh", 3)))
        assert (soon.verdict, "expires in 3 days" in soon.sentence) == (Verdict.WARN, True)

    def test_a_refused_token_says_which_kind_to_make(self, studio: Studio, tmp_path: Path) -> None:
        studio.router.get("/api/projects/").respond(401, json={})
        said = found(self.with_key(tmp_path, "0" * 40))
        assert said["token"].verdict is Verdict.FAIL
        assert "legacy token" in said["token"].advice
        assert said["found"].sentence == "The check 'token' failed."

    def test_what_answers_is_something_else(self, studio: Studio, tmp_path: Path) -> None:
        studio.router.get("/api/version/").respond(json=["hello"])
        assert "no Label Studio" in label_studio.reachable(self.with_key(tmp_path, "0" * 40)).sentence
        studio.router.get("/api/version/").respond(404)
        assert "(status 404)" in label_studio.reachable(self.with_key(tmp_path, "0" * 40)).sentence
        studio.router.get("/api/version/").mock(side_effect=httpx.ConnectError("no"))
        said = found(self.with_key(tmp_path, "0" * 40))
        assert said["label studio"].verdict is Verdict.FAIL
        assert {said[name].verdict for name in ("token", "found", "event")} == {Verdict.SKIPPED}

    def test_a_laptop_leaves_to_pods_what_only_pods_can_ask(self, studio: Studio, tmp_path: Path) -> None:
        for known in (
            self.with_key(tmp_path, "0" * 40, Location.LAPTOP, "http://ls.tools.svc:8080"),
            self.with_key(tmp_path, "", Location.LAPTOP),
        ):
            said = found(known)
            assert "kubectl -n" in said["label studio"].advice
            assert said["in label studio"].verdict is Verdict.SKIPPED
            assert "question" not in said

    def test_without_a_project_one_line_says_so(self, studio: Studio, tmp_path: Path) -> None:
        known = self.with_key(tmp_path, "0" * 40)
        known = Context(known.settings, known.location, "", (), known.adapters)
        assert found(known)["projects"].verdict is Verdict.SKIPPED


def test_the_url_is_that_of_the_only_backend(studio: Studio, tmp_path: Path) -> None:
    assert label_studio.sole_backend_url(build_context(tmp_path)) == studio.ingress.url
    studio.backends.append({"url": "http://other.example"})
    assert label_studio.sole_backend_url(build_context(tmp_path)) == ""
