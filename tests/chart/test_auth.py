"""Authentication: required unless values say otherwise, and no hash of a secret in manifests."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from tests.chart.rendering import CHART, Document, container, environment, template

ADAPTER = "Deployment/loop-fitloop"
SECRET = "correct-horse-battery-staple"
PASSWORD: Document = {"existingSecret": "", "username": "ann", "password": SECRET}
ANONYMOUS: Document = {"existingSecret": "", "anonymous": True}


def adapter_environment(auth: Document, **more: Any) -> dict[str, Any]:
    return environment(container(template({"auth": auth, **more}).pod(ADAPTER)))


@pytest.mark.parametrize(
    ("auth", "name"),
    [
        (PASSWORD, "loop-fitloop-auth"),
        ({"existingSecret": "", "secretPath": SECRET}, "loop-fitloop-auth"),
        ({"existingSecret": "door"}, "door"),
    ],
)
def test_any_credential_makes_authentication_required(auth: Document, name: str) -> None:
    """If the Secret lacks the keys, the process exits with an error instead of running without authentication."""
    found = adapter_environment(auth)
    assert found["FITLOOP_AUTH_REQUIRED"] == "true"
    assert not {"FITLOOP_ANONYMOUS", "FITLOOP_ALLOWED_HOSTS"} & found.keys()
    for variable in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "FITLOOP_SECRET_PATH"):
        assert found[variable]["secretKeyRef"] == {"name": name, "key": variable, "optional": True}


def test_secret_keys_can_be_named() -> None:
    keys = {"username": "username", "password": "password", "secretPath": "path"}
    found = adapter_environment({"existingSecret": "door", "existingSecretKeys": keys})
    variables = ("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "FITLOOP_SECRET_PATH")
    assert [found[one]["secretKeyRef"]["key"] for one in variables] == ["username", "password", "path"]
    own = adapter_environment({**PASSWORD, "existingSecretKeys": keys})
    assert own["BASIC_AUTH_USER"]["secretKeyRef"]["key"] == "BASIC_AUTH_USER", (
        "the chart's own Secret has its own"
    )


def test_anonymous_access_is_explicit() -> None:
    found = adapter_environment(ANONYMOUS)
    assert found["FITLOOP_ANONYMOUS"] == "true"
    assert not {"FITLOOP_AUTH_REQUIRED", "BASIC_AUTH_USER", "FITLOOP_SECRET_PATH"} & found.keys()


def test_an_anonymous_adapter_gets_its_allowed_hosts() -> None:
    ingress = {"enabled": True, "host": "fitloop.example.test", "extraHosts": ["b.example.test"]}
    found = adapter_environment(ANONYMOUS, ingress=ingress, allowedHosts=["10.0.0.7"])
    assert found["FITLOOP_ALLOWED_HOSTS"].split(",") == [
        "loop-fitloop",
        "loop-fitloop.default",
        "loop-fitloop.default.svc",
        "loop-fitloop.default.svc.cluster.local",
        "fitloop.example.test",
        "b.example.test",
        "10.0.0.7",
    ]


def test_manifests_contain_no_hash_of_a_secret() -> None:
    """More people can read pod annotations than Secrets."""
    keys = {"existingSecret": "", "accessKey": SECRET, "secretKey": SECRET}
    processes = ("adapter", "predictor", "trainer")
    before = template({"auth": PASSWORD, "store": {one: dict(keys) for one in processes}})
    others = {one: {**keys, "secretKey": "another"} for one in processes}
    after = template({"auth": {**PASSWORD, "password": "another"}, "store": others})
    for kind in ("Deployment", "InferenceService", "ConfigMap"):
        assert before.of(kind) == after.of(kind)


def test_helm_test_uses_the_same_credentials() -> None:
    for pod in template({"auth": PASSWORD}).of("Pod").values():
        found = environment(container(pod["spec"]))
        assert found["BASIC_AUTH_PASS"]["secretKeyRef"]["name"] == "loop-fitloop-auth"
    for pod in template({"auth": ANONYMOUS}).of("Pod").values():
        assert not environment(container(pod["spec"]))


def test_notes_contain_no_secret() -> None:
    """Notes end up in pipeline logs: they explain how to read the secret path."""
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert "{{ .Values.auth.secretPath }}" not in notes
    assert "$base .Values.auth.secretPath" not in notes


# ------------------------------------------------------------------------------------------- adapters and predictors
def test_adapters_and_predictors_share_a_generated_token() -> None:
    rendered = template()
    expected = {"name": "loop-fitloop-predictor-token", "key": "FITLOOP_PREDICTOR_TOKEN"}
    for owner in (ADAPTER, "InferenceService/loop-fitloop"):
        found = environment(container(rendered.pod(owner)))
        assert found["FITLOOP_PREDICTOR_TOKEN"]["secretKeyRef"] == expected
    assert "FITLOOP_PREDICTOR_TOKEN" not in environment(container(rendered.pod("Job/run")))
    secret = rendered.one("Secret", "loop-fitloop-predictor-token")
    assert len(base64.b64decode(secret["data"]["FITLOOP_PREDICTOR_TOKEN"])) == 48


@pytest.mark.parametrize(("more", "open_for"), [(("--is-upgrade",), 900), ((), 0)])
def test_an_upgrade_enforces_the_token_after_15_minutes(more: tuple[str, ...], open_for: int) -> None:
    rendered = template({}, "", *more)
    secret = rendered.one("Secret", "loop-fitloop-predictor-token")
    moment = int(base64.b64decode(secret["data"]["FITLOOP_PREDICTOR_TOKEN_FROM"]))
    assert max(0, moment - time.time()) == pytest.approx(open_for, abs=60)
    found = environment(container(rendered.pod("InferenceService/loop-fitloop")))
    assert found["FITLOOP_PREDICTOR_TOKEN_FROM"]["secretKeyRef"] == {
        "name": "loop-fitloop-predictor-token",
        "key": "FITLOOP_PREDICTOR_TOKEN_FROM",
        "optional": True,
    }


def test_the_token_can_come_from_an_existing_secret() -> None:
    own = {"predictor": {"token": {"existingSecret": "mine", "existingSecretKey": "word"}}}
    for values in (own, {**own, "kserve": {"enabled": False}}):
        rendered = template(values)
        for owner, spec in rendered.pods():
            if not owner.startswith(("Job/", "Pod/")):
                found = environment(container(spec))["FITLOOP_PREDICTOR_TOKEN"]
                assert found["secretKeyRef"] == {"name": "mine", "key": "word"}
        assert "loop-fitloop-predictor-token" not in rendered.of("Secret")
