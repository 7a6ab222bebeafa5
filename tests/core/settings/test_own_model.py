"""core.settings.own_model: only settings choose a class, and what contradicts itself is refused in a sentence."""

from __future__ import annotations

import json

import pytest

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig, BadRequest
from services.core.settings import GROUPS, Settings, TrainingSettings, variables
from services.core.settings.parameters import apply_overrides, parse_parameters

OWN = Parameters(Method.LABEL_STUDIO_ML, model="mails.model:Mails")
NEEDED = {"method": "label-studio-ml", "model": "mails.model:Mails"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in GROUPS.values():
        for name in group.model_fields:
            for variable in variables(group, name):
                monkeypatch.delenv(variable, raising=False)


def test_a_class_of_all_projects_is_a_parameter_of_their_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METHOD", "label-studio-ml")
    monkeypatch.setenv("FITLOOP_MODEL", "mails.model:Mails")
    assert Settings.load().training.parameters() == OWN


def test_two_projects_have_two_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"5": NEEDED, "6": {**NEEDED, "model": "images:Boxes"}}
    monkeypatch.setenv("FITLOOP_PROJECTS", json.dumps(own))
    settings = Settings.load()
    found = [
        apply_overrides(settings.training.parameters(), settings.trigger.parameters_of(number))
        for number in (5, 6, 7)
    ]
    assert [one.model for one in found] == ["mails.model:Mails", "images:Boxes", None]
    assert [one.is_own_model for one in found] == [True, True, False]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"METHOD": "label-studio-ml"}, "METHOD is label-studio-ml, which needs a class: set FITLOOP_MODEL"),
        ({"FITLOOP_MODEL": "mails"}, "FITLOOP_MODEL: it must name a class as package.module:Class"),
        ({"FITLOOP_MODEL": "mails.model:Mails"}, "FITLOOP_MODEL is set and no project uses it"),
        (
            {"FITLOOP_PROJECTS": '{"5": {"model": "a:B"}}'},
            "project 5: Parameter model needs method label-studio",
        ),
        (
            {"FITLOOP_PROJECTS": '{"5": {"method": "label-studio-ml"}}'},
            "project 5: Method label-studio-ml needs a",
        ),
        ({"FITLOOP_MODEL_VARIABLES": "A=b"}, "'A=b' is not a name"),
        (
            {"FITLOOP_MODEL_VARIABLES": "MY_KEY, AWS_SECRET_ACCESS_KEY"},
            "AWS_SECRET_ACCESS_KEY is Fitloop's own",
        ),
        ({"FITLOOP_MODEL_VARIABLES": "KUBERNETES_SERVICE_HOST"}, "KUBERNETES_SERVICE_HOST is Fitloop's own"),
    ],
)
def test_contradictions_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(BadConfig, match="These settings are wrong") as refused:
        Settings.load()
    assert said in str(refused.value)


def test_variables_are_names_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_MODEL_VARIABLES", " THRESHOLD, MY_KEY ,THRESHOLD")
    assert Settings.load().own_model.variables == ("THRESHOLD", "MY_KEY")


@pytest.mark.parametrize("given", [NEEDED, {"method": "label-studio-ml"}])
def test_what_is_no_setting_chooses_no_class(given: dict[str, str]) -> None:
    training = TrainingSettings(model="mails.model:Mails")
    with pytest.raises(BadRequest, match=r"FITLOOP_ALLOWED_MODELS \(which is empty\)"):
        apply_overrides(training.parameters(), given, training)


def test_extra_parameters_choose_an_allowed_class() -> None:
    training = TrainingSettings(allowed_models="mails.*, images:Boxes")
    assert parse_parameters(NEEDED, training) == (NEEDED, [])
    assert apply_overrides(Parameters(), NEEDED, training) == OWN
    overrides, problems = parse_parameters({"model": "os:System"}, training)
    assert overrides == {}
    assert "'os:System' is not allowed by FITLOOP_ALLOWED_MODELS (mails.*, images:Boxes)" in problems[0]


def test_extra_parameters_leave_the_operators_class_as_it_is() -> None:
    training = TrainingSettings()
    assert apply_overrides(OWN, {"num_train_epochs": "2"}, training).model == "mails.model:Mails"
    with pytest.raises(BadRequest, match="'os:System' is not allowed"):
        apply_overrides(OWN, {"model": "os:System"}, training)
