"""Every setting: white space around its value is taken off, alone it is nothing, and inside it is refused by the name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from services.core.errors import BadConfig
from services.core.settings import GROUPS, Settings, conflicting_variables, variables
from services.core.settings.group import Group, Inside, allowed_inside, is_checked

AROUND = ["\n", "\r\n", "\t", "\0", "\ufeff", "\u200b", "\u2060", "\u2028"]
BLANKS = [" ", "\u00a0", "\u3000", "  \n"]
INSIDE = ["\n", "\r", "\0", "\u2028"]
UNSEEN = [" ", "\t", "\u00a0", "\u200b", "\ufeff"]

GOOD: dict[str, str] = {
    "model": "mails.model:Mails",
    "variables": "THRESHOLD",
    "blind_share": "0.25",
    "url": "http://host:8080/path",
    "public_url": "https://host",
    "endpoint": "http://host:9000",
    "predictor_url": "http://models",
    "level": "DEBUG",
    "projects": '{"5": {"method": "finetune"}}',
    "predictor_workload": "deployment/models",
    "path_prefix": "/fitloop",
    "model_name": "mine",
    "method": "lp-ft",
}
"""Of fields that do not take just any word."""


def _fields() -> Iterator[tuple[str, type[Group], str, str]]:
    for key, group in GROUPS.items():
        for name in group.model_fields:
            for variable in variables(group, name):
                yield key, group, name, variable


FIELDS = list(_fields())
TEXTS = [one for one in FIELDS if is_checked(one[1].model_fields[one[2]])]
WORDS = [one for one in TEXTS if allowed_inside(one[1].model_fields[one[2]]) in {Inside.WORD, Inside.TOKEN}]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for *_, variable in FIELDS:
        monkeypatch.delenv(variable, raising=False)


def _good(group: type[Group], name: str) -> str:
    """A value that the field takes."""
    field = group.model_fields[name]
    if name in GOOD and field.annotation is not int:
        return GOOD[name]
    if isinstance(field.default, bool):
        return "true"
    kind: Any = field.annotation
    choices = get_args(kind)
    if choices and all(isinstance(one, str) for one in choices):
        return str(choices[-1])
    if kind in {int, float, int | None, float | None}:
        return "9"
    return str(list(kind)[-1]) if _is_enum(kind) else "a-word-of-seventeen"


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__members__")


def _loaded(key: str, name: str) -> Any:
    value = getattr(GROUPS[key](), name)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _settings() -> Settings:
    return Settings.load()


def _pair(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The other half of what is refused alone."""
    for half, other in (("BASIC_AUTH_USER", "BASIC_AUTH_PASS"), ("BASIC_AUTH_PASS", "BASIC_AUTH_USER")):
        if variable == half:
            monkeypatch.setenv(other, "other")


@pytest.mark.parametrize(("key", "group", "name", "variable"), FIELDS, ids=[one[3] for one in FIELDS])
def test_white_space_around_a_value_is_stripped(
    monkeypatch: pytest.MonkeyPatch, key: str, group: type[Group], name: str, variable: str
) -> None:
    _pair(monkeypatch, variable)
    good = _good(group, name)
    monkeypatch.setenv(variable, good)
    expected = _loaded(key, name)
    exact = allowed_inside(group.model_fields[name]) is Inside.EXACT
    for white in AROUND if exact else [*AROUND, *BLANKS]:
        if "\0" in white:  # no environment holds one, but a file and an argument may
            given, clean = (group.model_validate({name: one}) for one in (f"{white}{good}{white}", good))
            assert getattr(given, name) == getattr(clean, name)
            continue
        for value in (f"{good}{white}", f"{white}{good}", f"{white}{good}{white}"):
            monkeypatch.setenv(variable, value)
            assert _loaded(key, name) == expected, repr(value)


@pytest.mark.parametrize(("key", "group", "name", "variable"), FIELDS, ids=[one[3] for one in FIELDS])
def test_a_value_of_white_space_alone_is_none(
    monkeypatch: pytest.MonkeyPatch, key: str, group: type[Group], name: str, variable: str
) -> None:
    default = _loaded(key, name)
    for white in ("\n", " ", "\t \r\n", "\u00a0", "\ufeff\u200b"):
        monkeypatch.setenv(variable, white)
        assert _loaded(key, name) == default, repr(white)
    for other in variables(group, name):
        if other != variable:
            monkeypatch.setenv(other, _good(group, name))
            assert _loaded(key, name) != "" or _good(group, name) == ""


@pytest.mark.parametrize(("key", "group", "name", "variable"), TEXTS, ids=[one[3] for one in TEXTS])
def test_an_inner_line_break_is_refused_unrepeated(
    monkeypatch: pytest.MonkeyPatch, key: str, group: type[Group], name: str, variable: str
) -> None:
    del key, group, name
    _refuses(monkeypatch, variable, [one for one in INSIDE if one != "\0"])


@pytest.mark.parametrize(("key", "group", "name", "variable"), WORDS, ids=[one[3] for one in WORDS])
def test_a_blank_inside_is_refused_where_none_can_be_meant(
    monkeypatch: pytest.MonkeyPatch, key: str, group: type[Group], name: str, variable: str
) -> None:
    del key, group, name
    _refuses(monkeypatch, variable, UNSEEN)


def _refuses(monkeypatch: pytest.MonkeyPatch, variable: str, inside: list[str]) -> None:
    _pair(monkeypatch, variable)
    for white in inside:
        monkeypatch.setenv(variable, f"hush{white}never-said")
        with pytest.raises(BadConfig, match=f"{variable}: it contains") as raised:
            _settings()
        assert "never-said" not in str(raised.value)


@pytest.mark.parametrize("variable", ["BASIC_AUTH_USER", "BASIC_AUTH_PASS"])
@pytest.mark.parametrize("value", [" hush", "hush ", "hush \n", "\u00a0hush"])
def test_a_password_that_begins_or_ends_with_a_blank_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    _pair(monkeypatch, variable)
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadConfig, match=f"{variable}: it begins or ends with a blank") as raised:
        _settings()
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("password", ["correct horse", "пароль", "a\u200db", "'quoted'", "=+/"])
def test_a_password_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("BASIC_AUTH_USER", "some one")
    monkeypatch.setenv("BASIC_AUTH_PASS", password)
    assert _settings().auth.password.get_secret_value() == password


@pytest.mark.parametrize(
    ("value", "actual"),
    [
        ('"token"', "it is in quotation marks"),
        ("tokén", "it contains the character U\\+00E9"),
        ("to\ufeffken", "it contains the character U\\+FEFF"),
        ("to\u00a0ken", "it contains the character U\\+00A0 \\(NO-BREAK SPACE\\)"),
    ],
)
def test_a_token_that_no_header_can_carry_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, actual: str
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", value)
    with pytest.raises(BadConfig, match=f"LABEL_STUDIO_API_KEY: {actual}"):
        _settings()


def test_a_user_name_that_basic_auth_would_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC_AUTH_USER", "domain:me")
    monkeypatch.setenv("BASIC_AUTH_PASS", "hush")
    with pytest.raises(BadConfig, match="BASIC_AUTH_USER: it contains a ':'"):
        _settings()


def test_paths_and_models_may_hold_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", "/my data/модели ")
    monkeypatch.setenv("BASELINE_MODEL_NAME", "/my models/bert\n")
    settings = _settings()
    assert settings.storage.model_dir == Path("/my data/модели")
    assert settings.training.base_model == "/my models/bert"


def test_the_variable_that_is_set_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_HOST", " ")
    monkeypatch.setenv("LABEL_STUDIO_URL", "studio:8080")
    with pytest.raises(BadConfig, match="LABEL_STUDIO_URL: it must begin with http:// or https://"):
        _settings()


def test_conflicting_variables_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_HOST", "http://one/")
    monkeypatch.setenv("LABEL_STUDIO_URL", " http://one")
    monkeypatch.setenv("AWS_REGION", "a")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "b")
    assert conflicting_variables() == []
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://two")
    assert _settings().label_studio.url == "http://one"
    (actual,) = conflicting_variables()
    assert actual.startswith("LABEL_STUDIO_HOST and LABEL_STUDIO_URL are both set")
