"""Parameters of a run as people write them."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Method, Parameters
from services.core.errors import BadRequest
from services.core.settings import TrainingSettings
from services.core.settings.parameters import (
    CONTROL_IS_PER_PROJECT,
    PARAMETER_NAMES,
    apply_overrides,
    parse_controls,
    parse_parameters,
    parse_project_settings,
    parse_run_parameters,
)


@pytest.mark.parametrize("raw", [None, "", "  ", "null", {}, "{}"])
def test_nothing_given_is_no_problem(raw: object) -> None:
    assert parse_parameters(raw) == ({}, [])


@pytest.mark.parametrize("raw", [{"method": "finetune", "seed": 7}, '{"method": "finetune", "seed": 7}'])
def test_an_object_and_the_json_of_one_are_the_same(raw: object) -> None:
    assert parse_parameters(raw) == ({"method": "finetune", "seed": "7"}, [])


@pytest.mark.parametrize("raw", ["finetune", "[1]", [], 3, True, "[" * 100_000])
def test_anything_but_an_object_is_a_problem_in_a_sentence(raw: object) -> None:
    overrides, problems = parse_parameters(raw)
    assert overrides == {}
    assert problems == ['Parameters must be a JSON object, such as {"method": "finetune"}.']


def test_good_values_are_kept_beside_bad_ones() -> None:
    overrides, problems = parse_parameters({"nonsense": "x", "num_train_epochs": 3, "weight_decay": -1})
    assert overrides == {"num_train_epochs": "3"}
    assert problems == [
        f"'nonsense' is not a run parameter: choose one of {', '.join(PARAMETER_NAMES)}.",
        "Parameter weight_decay cannot be '-1': Input should be greater than or equal to 0.",
    ]


def test_values_of_unknown_names_are_not_repeated() -> None:
    assert "hunter2" not in " ".join(parse_parameters({"password": "hunter2"})[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "magic"),
        ("base_model", ""),
        ("base_model", "a\nb"),
        ("base_model", "a" * 301),
        ("model_name", "../up"),
        ("learning_rate", "0"),
        ("learning_rate", "nan"),
        ("num_train_epochs", "inf"),
        ("budget_seconds", "-3"),
        ("max_length", "7"),
        ("max_length", "2.5"),
        ("seed", "-1"),
        ("nonsense", "1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=name):
        apply_overrides(Parameters(), {name: value})


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}])
def test_a_value_is_a_text_or_a_number(value: Any) -> None:
    assert parse_parameters({"seed": value}) == ({}, ["Parameter seed must be text or a number."])


def test_overrides_take_their_places_and_types() -> None:
    given = {
        "method": "linear-probe",
        "base_model": "a/b",
        "model_name": "mails",
        "learning_rate": "3e-5",
        "num_train_epochs": "2",
        "weight_decay": "0",
        "budget_seconds": "10",
        "max_length": "64",
        "seed": "3",
        "control": "topic",
        "model": "mails.model:Mails",
    }
    assert set(given) == set(PARAMETER_NAMES) == {field.name for field in fields(Parameters)}
    own = {**given, "method": "label-studio-ml"}
    assert apply_overrides(Parameters(), own) == Parameters(
        Method.LABEL_STUDIO_ML, "a/b", "mails", 3e-5, 2.0, 0.0, 10.0, 64, 3, "topic", "mails.model:Mails"
    )
    del given["model"]
    assert apply_overrides(Parameters(), given).method is Method.LINEAR_PROBE


def test_no_overrides_change_nothing() -> None:
    assert apply_overrides(Parameters(seed=4), {}) == Parameters(seed=4)


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(PARAMETER_NAMES) | st.text(), inner, max_size=5)
    ),
    max_leaves=10,
)


@given(_json)
def test_whatever_is_parsed_can_be_applied(raw: Any) -> None:
    overrides, problems = parse_parameters(raw)
    apply_overrides(Parameters(), overrides)
    assert all(problem.endswith(".") for problem in problems)


def test_settings_of_projects_are_checked_as_parameters_are() -> None:
    raw = (
        '{"5": {"method": "finetune", "start_training_each_n_updates": 20, "learning_rate": "5e-5"}, "6": {}}'
    )
    found = {"method": "finetune", "start_training_each_n_updates": "20", "learning_rate": "5e-5"}
    assert parse_project_settings(raw) == {5: found, 6: {}}


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ('{"5": {"learning_rte": "1"}}', "Project 5: 'learning_rte' is not a run parameter"),
        ('{"5": {"method": "magic"}}', "Project 5: Parameter method cannot be 'magic'"),
        (
            '{"5": {"start_training_each_n_updates": 0}}',
            "Project 5: start_training_each_n_updates cannot be '0'",
        ),
        ('{"reviews": {}}', "'reviews' is not a project id in Label Studio"),
        ('{"5": "finetune"}', "Settings of project 5 must be a JSON object"),
        ("[]", "Parameters must be a JSON object"),
    ],
)
def test_wrong_settings_of_projects_name_the_key(raw: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_project_settings(raw)


_ALLOWED = TrainingSettings(base_model="/opt/base", allowed_base_models="intfloat/*, s3://models/*")


@pytest.mark.parametrize("base", ["/opt/base", "intfloat/multilingual-e5-small", "s3://models/a/b/"])
def test_a_base_model_that_the_operator_allows_may_be_named(base: str) -> None:
    assert parse_parameters({"base_model": base}, _ALLOWED) == ({"base_model": base}, [])
    assert apply_overrides(Parameters(), {"base_model": base}, _ALLOWED).base_model == base


@pytest.mark.parametrize(
    "base", ["someone/model", "/etc", "s3://other/x/", "s3://models/../other/x/", "INTFLOAT/x"]
)
def test_a_disallowed_base_model_names_the_setting(base: str) -> None:
    sentence = (
        f"Base model {base!r} is not allowed by FITLOOP_ALLOWED_BASE_MODELS (intfloat/*, s3://models/*). "
        "Choose one that matches, or omit base_model to use '/opt/base'."
    )
    assert parse_parameters({"base_model": base, "seed": 1}, _ALLOWED) == ({"seed": "1"}, [sentence])
    with pytest.raises(BadRequest, match="FITLOOP_ALLOWED_BASE_MODELS"):
        apply_overrides(Parameters(), {"base_model": base}, _ALLOWED)


def test_without_a_list_any_base_model_may_be_named() -> None:
    assert parse_parameters({"base_model": "/etc"}, TrainingSettings()) == ({"base_model": "/etc"}, [])


@pytest.mark.parametrize(
    ("raw", "controls"),
    [
        ("", ""),
        (" topic ", "topic"),
        ("topic,intent", "topic,intent"),
        ('{"5": "topic", "7": " сорт "}', {5: "topic", 7: "сорт"}),
        ({"5": "topic"}, {5: "topic"}),
    ],
)
def test_controls_are_named_for_all_projects_or_for_each(raw: object, controls: object) -> None:
    assert parse_controls(raw) == controls


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ('{"reviews": "topic"}', "'reviews' is not a project id"),
        ('{"5": ""}', "Parameter control must be a text"),
        ('{"5": ["a"]}', "Parameter control must be text or a number"),
        ('{"5": "topic"', "must be a JSON object"),
        ("a\nb", "printable"),
    ],
)
def test_wrong_controls_are_reported(raw: object, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        parse_controls(raw)
    assert '"topic,intent" or {"5": "topic"}' in str(raised.value)


def test_control_is_not_a_parameter_of_one_run() -> None:
    overrides, problems = parse_run_parameters({"control": "topic", "seed": 3})
    assert overrides == {"seed": "3"}
    assert problems == [CONTROL_IS_PER_PROJECT]
