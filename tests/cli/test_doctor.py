"""`fitloop doctor`: its exit code, its lines, its JSON, and how it finds what to check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import respx

from services.cli import client, doctor
from services.cli.checks import Location
from services.cluster.client import ClusterError
from services.core.errors import FitloopError
from tests.support.doctor import (
    LABEL_STUDIO_URL,
    FakeIngress,
    FakeInspector,
    FakeKube,
    build_context,
    serve_ingress,
)
from tests.support.terminal import Terminal

DEPLOYMENT: dict[str, Any] = {
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "env": [
                            {"name": "FITLOOP_STORE", "value": "s3://b/x/"},
                            {"name": "FITLOOP_CACHE_DIR", "value": "/cache"},
                            {"name": "LABEL_STUDIO_URL", "value": "http://ls.tools.svc"},
                            {
                                "name": "LABEL_STUDIO_API_KEY",
                                "valueFrom": {"secretKeyRef": {"name": "ls", "key": "k"}},
                            },
                        ]
                    }
                ]
            }
        }
    }
}


@pytest.fixture
def ingress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeIngress]:
    with serve_ingress(FakeIngress(project={"id": 5})) as found:
        for name, value in {
            "FITLOOP_URL": found.url,
            "LABEL_STUDIO_URL": LABEL_STUDIO_URL,
            "LABEL_STUDIO_API_KEY": "",
            "MODEL_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def studio() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        router.route(host="127.0.0.1").pass_through()
        router.head(f"{LABEL_STUDIO_URL}/health").respond()
        router.get(f"{LABEL_STUDIO_URL}/api/version/").respond(json={"release": "1.23.2"})
        yield router


def test_one_line_per_check_and_exit_code_1_on_a_failure(
    ingress: FakeIngress, terminal: Terminal, studio: respx.MockRouter
) -> None:
    code, out, _ = terminal.run("doctor")
    lines = out.splitlines()
    assert code == 1
    assert "FAIL    token: LABEL_STUDIO_API_KEY is not set, so labels cannot be read. -> " in out
    assert f"ok      url: Label Studio creates a webhook for {ingress.url}." in lines
    assert "skipped project 5: event: The check 'token' failed." in lines
    assert any(line.startswith("skipped cluster: No cluster was given. -> ") for line in lines)


def test_json_output(ingress: FakeIngress, terminal: Terminal, studio: respx.MockRouter) -> None:
    code, out, _ = terminal.run("doctor", "--json", "--project", "7", "--url", "http://fitloop:9090")
    rows = json.loads(out)
    assert code == 1
    assert all(set(row) == {"name", "verdict", "sentence", "advice"} for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["url"]["verdict"] == "fail"
    assert "project 7: state" in by_name


def test_invalid_settings_are_one_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "ftp://x")
    code, _, err = terminal.run("doctor")
    assert (code, err.count("\n")) == (1, 1)


def test_literal_variables_of_the_deployment_are_used() -> None:
    assert doctor.container_variables(DEPLOYMENT) == {
        "FITLOOP_STORE": "s3://b/x/",
        "LABEL_STUDIO_URL": "http://ls.tools.svc",
    }
    assert doctor.container_variables({}) == {}


def test_this_environment_overrides_the_deployments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FITLOOP_NAMESPACE", "FITLOOP_RELEASE", "FITLOOP_LEASE", "FITLOOP_STORE"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://here")
    kube = FakeKube({("deployment", "loop"): DEPLOYMENT})
    doctor._adopt_settings(kube, "loop")  # type: ignore[arg-type]  # a fake
    import os

    assert [
        os.environ[name]
        for name in ("FITLOOP_NAMESPACE", "FITLOOP_LEASE", "FITLOOP_STORE", "LABEL_STUDIO_URL")
    ] == [
        "here",
        "loop",
        "s3://b/x/",
        "http://here",
    ]
    doctor._adopt_settings(FakeKube(), "none")  # type: ignore[arg-type]  # a fake
    assert "There is no Deployment none in namespace here" in capsys.readouterr().err

    class Refusing(FakeKube):
        def get(self, kind: str, name: str) -> dict[str, Any] | None:
            raise ClusterError(f"No right to get {kind} {name}.")

    doctor._adopt_settings(Refusing(), "loop")  # type: ignore[arg-type]  # a fake
    assert "Deployment loop cannot be read: No right to get deployment loop." in capsys.readouterr().err


def test_the_default_url_on_a_laptop(tmp_path: Path) -> None:
    class WithIngress(FakeInspector):
        def ingress_url(self, name: str) -> str:
            if name != "fitloop":
                raise FitloopError("no")
            return "https://models.example.com/x"

    from dataclasses import replace

    known = replace(build_context(tmp_path, where=Location.LAPTOP), inspector=WithIngress())  # type: ignore[arg-type]  # a fake
    assert doctor._default_url(known) == "https://models.example.com/x"
    settings = replace(
        known.settings, cluster=known.settings.cluster.model_copy(update={"release": "a", "namespace": "n"})
    )
    assert doctor._default_url(replace(known, settings=settings)) == "http://a.n.svc.cluster.local"


def test_default_projects_are_those_that_fitloop_knows(ingress: FakeIngress, tmp_path: Path) -> None:
    known = build_context(tmp_path, ingress.url)
    assert doctor._known_projects(known) == (5,)
    assert doctor._known_projects(build_context(tmp_path, "http://127.0.0.1:9")) == ()
    assert known.adapters.counters()['fitloop_refused_requests_total{route="webhook"}'] == 0
    ingress.status = 401
    with pytest.raises(FitloopError, match="refused the credentials"):
        known.adapters.get_object("/api/projects")


def test_a_pod_asks_every_adapter_of_its_release(
    ingress: FakeIngress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(ingress.url.rpartition(":")[2])
    monkeypatch.setattr(client, "ADAPTER_PORT", port)
    monkeypatch.setattr(client, "MANAGEMENT_PORT", port)
    pods = [
        {
            "metadata": {"name": name},
            "spec": {"serviceAccountName": f"{release}-adapter"},
            "status": {"phase": "Running", "podIP": "127.0.0.1"},
        }
        for name, release in (("a", "fitloop"), ("b", "fitloop"), ("c", "other"))
    ]
    ingress.events = 2
    known = build_context(
        tmp_path, where=Location.POD, inspector=FakeInspector(FakeKube(listed={"pod": pods}))
    )
    assert sum(known.adapters.counters().values()) == 4, "of both pods of this release"
    assert known.adapters.releases() == {"a": "1.2.3", "b": "1.2.3"}
    assert doctor._known_projects(known) == (5,)
    ingress.is_fitloop = False
    assert known.adapters.get_object("/api/projects") == {"hello": "world"}


def test_a_laptop_uses_the_given_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "FITLOOP_NAMESPACE",
        "FITLOOP_RELEASE",
        "FITLOOP_LEASE",
        "FITLOOP_STORE",
        "LABEL_STUDIO_URL",
    ):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    asked: list[tuple[str, str | None]] = []

    def connect(namespace: str, context: str | None = None) -> FakeKube:
        asked.append((namespace, context))
        return FakeKube({("deployment", "loop"): DEPLOYMENT}, namespace=namespace)

    monkeypatch.setattr("services.cluster.client.connect", connect)
    found = doctor._locate(("team", "loop", "prod"))
    assert asked == [("team", "prod")]
    assert (found.location, found.settings.cluster.release, found.settings.storage.store) == (
        Location.LAPTOP,
        "loop",
        "s3://b/x/",
    )
    pod = tmp_path / "namespace"
    pod.write_text("team")
    monkeypatch.setattr(doctor, "_NAMESPACE_FILE", pod)
    assert doctor._locate(None).location is Location.POD
