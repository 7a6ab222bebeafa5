"""Values: each has a comment, the schema repeats it, and an invalid value is refused by its key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from services.core.settings.parameters import EACH_N_UPDATES, PARAMETER_NAMES, parse_project_settings
from tests.chart.rendering import CHART, container, environment, template

VALUES = CHART / "values.yaml"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every value below a schema, including groups."""
    for name, found in schema.get("properties", {}).items():
        yield f"{path}{name}", found
        yield from leaves(found, f"{path}{name}.")


def comments() -> dict[str, str]:
    """Return the comments in values.yaml by path."""
    found: dict[str, str] = {}
    above: list[str] = []
    path: list[str] = []
    for line in VALUES.read_text().splitlines():
        if line.strip().startswith("#"):
            above.append(line.strip().lstrip("# "))
            continue
        if key := re.match(r"( *)([A-Za-z]+):", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            found[".".join(path)] = " ".join(one for one in above if not one.startswith("---")).strip()
        above = []
    return found


def test_values_file_stays_short() -> None:
    assert len(VALUES.read_text().splitlines()) <= 600


def test_value_comments_match_the_schema() -> None:
    actual = comments()
    for path, schema in leaves(SCHEMA):
        assert schema.get("description"), path
        if path in actual and not path.endswith((".requests", ".limits")):
            assert actual[path] == schema["description"], path
    assert set(actual) <= {path for path, _ in leaves(SCHEMA)}


def test_unknown_keys_are_refused_everywhere() -> None:
    for path, schema in leaves(SCHEMA):
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path


@pytest.mark.parametrize(
    ("values", "actual"),
    [
        ({"adaptor": {}}, "adaptor"),
        ({"predictor": {"replica": 2}}, "replica"),
        ({"predictor": {"replicas": 0}}, "/predictor/replicas"),
        ({"adapter": {"replicas": "two"}}, "/adapter/replicas"),
        ({"rollout": {"mode": "recreate"}}, "/rollout/mode"),
        ({"training": {"method": "bert"}}, "/training/method"),
        ({"training": {"maxLength": "8193"}}, "/training/maxLength"),
        ({"training": {"everyNUpdates": "0"}}, "/training/everyNUpdates"),
        ({"training": {"allowedBaseModel": ["a"]}}, "allowedBaseModel"),
        ({"auth": {"anonymus": True}}, "anonymus"),
        ({"auth": {"existingSecretKeys": {"user": "a"}}}, "user"),
        ({"admissionPolicy": {"enable": True}}, "enable"),
        ({"serviceAccounts": {"adapter": {"anotations": {}}}}, "anotations"),
        ({"networkPolicy": {"dns": {"namespace": "a"}}}, "namespace"),
        ({"networkPolicy": {"trainerBlocked": ["metadata"]}}, "/networkPolicy/trainerBlocked/0"),
        ({"trainer": {"initContainers": [{"image": "a"}]}}, "/trainer/initContainers/0"),
        ({"store": {"url": "http://bucket"}}, "/store/url"),
        ({"store": {"endpoint": "minio:9000"}}, "/store/endpoint"),
        ({"auth": {"secretPath": "a/b"}}, "/auth/secretPath"),
        ({"ingress": {"path": "fitloop"}}, "/ingress/path"),
        ({"trainer": {"scratchSize": "20 GB"}}, "/trainer/scratchSize"),
        ({"trainer": {"resources": {"request": {}}}}, "request"),
        ({"trainer": {"activeDeadlineSeconds": 10}}, "/trainer/activeDeadlineSeconds"),
        ({"adapter": {"extraEnv": [{"value": "x"}]}}, "/adapter/extraEnv/0"),
        ({"projects": {"twelve": {}}}, "twelve"),
        ({"projects": {"12": {"lerning_rate": 1}}}, "lerning_rate"),
        ({"podSecurity": {"runAsUser": 0}}, "/podSecurity/runAsUser"),
    ],
)
def test_an_invalid_value_is_named(values: dict[str, Any], actual: str) -> None:
    refusal = template(values).refusal
    assert actual.replace("/", ".").lstrip(".") in refusal.replace("/", "."), refusal


def test_project_settings_reach_the_adapter() -> None:
    projects = {
        "12": {
            "method": "finetune",
            "learning_rate": 3e-5,
            "start_training_each_n_updates": 20,
            "control": "topic",
        },
        "7": {"num_train_epochs": "3"},
    }
    rendered = template({"projects": projects})
    variables = environment(container(rendered.pod("Deployment/loop-fitloop")))["FITLOOP_PROJECTS"]
    found = parse_project_settings(variables)
    assert found[12] == {
        "method": "finetune",
        "learning_rate": "3e-05",
        "start_training_each_n_updates": "20",
        "control": "topic",
    }
    assert found[7] == {"num_train_epochs": "3"}


def test_project_settings_cover_all_run_parameters() -> None:
    known = SCHEMA["properties"]["projects"]["additionalProperties"]["properties"]
    assert set(known) == {*PARAMETER_NAMES, EACH_N_UPDATES}


def test_numbers_can_be_strings() -> None:
    """`--set` writes decimals as strings, and `--set-string` all values."""
    values = {
        "store": {"timeoutSeconds": "4.5"},
        "adapter": {"replicas": "3"},
        "predictor": {"modelMemoryMb": "500"},
        "training": {"learningRate": "3e-5", "maxLength": "512"},
        "monitoring": {"rules": {"enabled": True, "thresholds": {"labelsWaitingSeconds": "7200.5"}}},
        "networkPolicy": {"egressPorts": ["443"]},
    }
    rendered = template(values)
    variables = environment(container(rendered.pod("Deployment/loop-fitloop")))
    assert variables["FITLOOP_S3_TIMEOUT_SECONDS"] == "4.5"
    assert (variables["LEARNING_RATE"], variables["FITLOOP_MAX_LENGTH"]) == ("3e-5", "512")
    assert rendered.one("Deployment", "loop-fitloop")["spec"]["replicas"] == 3
    assert "> 7200.5" in str(rendered.one("PrometheusRule", "loop-fitloop"))
    given = template(None, "minikube-cpu", "--set=rollout.flipSeconds=1.5,store.timeoutSeconds=5.5")
    assert (
        environment(container(given.pod("Deployment/loop-fitloop")))["FITLOOP_ROLLOUT_FLIP_SECONDS"] == "1.5"
    )


def _numbers(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    kinds = schema.get("type", ())
    if {"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds):
        yield path, schema
    for name, found in schema.get("properties", {}).items():
        yield from _numbers(found, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _numbers(schema[key], f"{path}.{key}")


def test_numeric_strings_are_validated() -> None:
    for path, schema in _numbers(SCHEMA):
        assert "string" in schema["type"], path
        if "enum" in schema:
            continue
        pattern = re.compile(schema["pattern"])
        assert not pattern.search("many"), path
        assert not pattern.search("-1"), path
        if schema.get("exclusiveMinimum") == 0 or schema.get("minimum", 0) >= 1:
            assert not pattern.search("0"), path
        for least in (schema.get("minimum"), schema.get("maximum")):
            assert least is None or pattern.search(str(least)), path


def test_list_values_become_comma_separated() -> None:
    training = {"controls": ["topic", "intent"], "allowedBaseModels": ["intfloat/*", "s3://models/*"]}
    variables = environment(container(template({"training": training}).pod("Deployment/loop-fitloop")))
    assert variables["FITLOOP_CONTROLS"] == "topic,intent"
    assert variables["FITLOOP_ALLOWED_BASE_MODELS"] == "intfloat/*,s3://models/*"
    variables = environment(container(template().pod("Deployment/loop-fitloop")))
    assert not {"FITLOOP_CONTROLS", "FITLOOP_ALLOWED_BASE_MODELS"} & variables.keys()


def test_large_integers_keep_their_notation() -> None:
    """Go prints a million as 1e+06, which is no valid integer elsewhere."""
    values = {"trainer": {"activeDeadlineSeconds": 3000000}, "predictor": {"queueTexts": 2000000}}
    rendered = template(values)
    assert rendered.job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 3000000
    assert environment(container(rendered.pod("Job/run")))["FITLOOP_RUN_SECONDS"] == "2999880"
    variables = environment(container(rendered.pod("InferenceService/loop-fitloop")))
    assert variables["FITLOOP_QUEUE_TEXTS"] == "2000000"


def test_the_public_url_reaches_the_adapter() -> None:
    name = "FITLOOP_LABEL_STUDIO_PUBLIC_URL"
    given = template({"labelStudio": {"publicUrl": "https://labels.example.com"}})
    assert environment(container(given.pod("Deployment/loop-fitloop")))[name] == "https://labels.example.com"
    assert name not in environment(container(template().pod("Deployment/loop-fitloop")))


def test_null_values_leave_variables_unset() -> None:
    variables = environment(container(template().pod("Deployment/loop-fitloop")))
    assert not {"LEARNING_RATE", "NUM_TRAIN_EPOCHS", "WEIGHT_DECAY"} & variables.keys()
    given = template({"training": {"learningRate": 3e-5, "weightDecay": 0}}).pod("Deployment/loop-fitloop")
    variables = environment(container(given))
    assert (float(variables["LEARNING_RATE"]), variables["WEIGHT_DECAY"]) == (3e-5, "0")
    assert "NUM_TRAIN_EPOCHS" not in variables


def test_defaults_render() -> None:
    """values.yaml lacks only what must be given."""
    assert set(yaml.safe_load(VALUES.read_text())) == set(SCHEMA["properties"]) - {"global"}
    assert template(profile="").refusal == ""


OWN = {"method": "label-studio-ml", "model": "mails.model:Mails"}


def test_a_class_of_the_users_reaches_each_process() -> None:
    rendered = template({"training": {**OWN, "modelVariables": ["THRESHOLD"]}})
    adapter, predictor = (
        environment(container(rendered.pod(name)))
        for name in ("Deployment/loop-fitloop", "InferenceService/loop-fitloop")
    )
    assert adapter["FITLOOP_MODEL"] == "mails.model:Mails"
    assert "FITLOOP_MODEL_VARIABLES" not in adapter
    assert predictor["FITLOOP_MODEL_VARIABLES"] == "THRESHOLD"
    assert {"LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"} <= set(predictor)
    assert "FITLOOP_MODEL" not in predictor


def test_predictors_do_not_get_label_studios_key_without_one() -> None:
    predictor = environment(container(template({}).pod("InferenceService/loop-fitloop")))
    assert not {"LABEL_STUDIO_API_KEY", "FITLOOP_MODEL_VARIABLES"} & set(predictor)


def test_predictors_have_room_for_the_files_of_classes() -> None:
    def folders(**training: str) -> dict[str, str]:
        pod = template({"training": training}).pod("InferenceService/loop-fitloop")
        return {one["name"]: one["emptyDir"]["sizeLimit"] for one in pod["volumes"] if "emptyDir" in one}

    assert folders()["tmp"] == "1Gi"
    assert folders(**OWN)["tmp"] == folders(**OWN)["cache"]
