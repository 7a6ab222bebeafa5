"""core.settings: known names work, empty means unset, and all problems are reported at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig
from services.core.settings import GROUPS, Settings, variables


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in GROUPS.values():
        for name in group.model_fields:
            for variable in variables(group, name):
                monkeypatch.delenv(variable, raising=False)


def test_nothing_set_gives_the_defaults_of_the_example_backend() -> None:
    settings = Settings.load()
    assert settings.label_studio.url == "http://localhost:8080"
    assert settings.training.base_model == "bert-base-multilingual-cased"
    assert settings.trigger.every_n_updates == 10
    assert settings.training.parameters() == Parameters()
    assert settings.serving.workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("variable", "value", "group", "field", "expected"),
    [
        ("LABEL_STUDIO_HOST", "https://a.example/", "label_studio", "url", "https://a.example"),
        ("LABEL_STUDIO_URL", "http://b", "label_studio", "url", "http://b"),
        ("LOG_LEVEL", "debug", "logging", "level", "DEBUG"),
        ("WORKERS", "3", "serving", "workers", 3),
        ("THREADS", "2", "serving", "threads", 2),
        ("BASELINE_MODEL_NAME", "/m", "training", "base_model", "/m"),
        ("FINETUNED_MODEL_NAME", "mine", "training", "model_name", "mine"),
        ("START_TRAINING_EACH_N_UPDATES", "5", "trigger", "every_n_updates", 5),
        ("LEARNING_RATE", "3e-5", "training", "learning_rate", 3e-5),
        ("NUM_TRAIN_EPOCHS", "2", "training", "num_train_epochs", 2.0),
        ("WEIGHT_DECAY", "0", "training", "weight_decay", 0.0),
        ("METHOD", "finetune", "training", "method", Method.FINETUNE),
        ("MODEL_DIR", "/data", "storage", "model_dir", Path("/data")),
    ],
)
def test_each_known_name_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, group: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(getattr(Settings.load(), group), field) == expected


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "hush")
    monkeypatch.setenv("BASIC_AUTH_USER", "ann")
    monkeypatch.setenv("BASIC_AUTH_PASS", "hush")
    monkeypatch.setenv("FITLOOP_SECRET_PATH", "hush-hush-hush-hush")
    monkeypatch.setenv("FITLOOP_TRACES_ENDPOINT", "http://me:hush@collector")
    settings = Settings.load()
    assert "hush" not in repr(settings)
    assert settings.auth.username == "ann"
    assert settings.auth.password.get_secret_value() == "hush"


def test_a_wrong_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_HOST", "ann:hush@label-studio")
    with pytest.raises(BadConfig, match="LABEL_STUDIO_HOST: .*http://") as raised:
        Settings.load()
    assert "hush" not in str(raised.value)


def test_missing_required_credentials_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_AUTH_REQUIRED", "true")
    with pytest.raises(BadConfig, match="FITLOOP_AUTH_REQUIRED is set, and neither BASIC_AUTH_USER"):
        Settings.load().auth.check_credentials()
    monkeypatch.setenv("FITLOOP_SECRET_PATH", "correct-horse-battery")
    Settings.load().auth.check_credentials()


@pytest.mark.parametrize(
    ("there", "absent"), [("BASIC_AUTH_USER", "BASIC_AUTH_PASS"), ("BASIC_AUTH_PASS", "BASIC_AUTH_USER")]
)
def test_half_a_login_is_refused(monkeypatch: pytest.MonkeyPatch, there: str, absent: str) -> None:
    monkeypatch.setenv(there, "something")
    monkeypatch.setenv(absent, "")
    with pytest.raises(BadConfig, match=f"{there} is set and {absent} is not: set both") as raised:
        Settings.load()
    assert "something" not in str(raised.value)


NUMBERS = [
    variables(group, name)[0]
    for group in GROUPS.values()
    for name, field in group.model_fields.items()
    if "float" in str(field.annotation)
]


@pytest.mark.parametrize("variable", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
def test_numbers_are_finite(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadConfig, match=variable):
        Settings.load()


def test_the_numbers_of_a_fine_tune_are_among_them() -> None:
    assert {"LEARNING_RATE", "NUM_TRAIN_EPOCHS", "WEIGHT_DECAY"} <= set(NUMBERS)


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_RATE", "")
    assert Settings.load().training.learning_rate is None


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {
        "LABEL_STUDIO_HOST": "ftp:x",
        "START_TRAINING_EACH_N_UPDATES": "0",
        "LOG_LEVEL": "loud",
        "METHOD": "magic",
    }
    for variable, value in bad.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(BadConfig) as raised:
        Settings.load()
    for variable in bad:
        assert variable in str(raised.value)


def test_every_field_says_its_unit_and_reason() -> None:
    for group in GROUPS.values():
        for name, field in group.model_fields.items():
            assert field.description, f"{group.__name__}.{name}"


def test_project_settings_override_general_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    own = '{"5": {"method": "finetune", "start_training_each_n_updates": "20"}}'
    monkeypatch.setenv("FITLOOP_PROJECTS", own)
    trigger = Settings.load().trigger
    assert (trigger.of(5).every_n_updates, trigger.of(6).every_n_updates) == (20, 10)
    assert (trigger.parameters_of(5), trigger.parameters_of(6)) == ({"method": "finetune"}, {})


@pytest.mark.parametrize("value", ["{", '{"5": {"metod": "finetune"}}'])
def test_wrong_settings_of_single_projects_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FITLOOP_PROJECTS", value)
    with pytest.raises(BadConfig, match="FITLOOP_PROJECTS"):
        Settings.load()


def test_a_projects_base_model_is_one_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_ALLOWED_BASE_MODELS", " acme/* ,")
    monkeypatch.setenv("FITLOOP_PROJECTS", '{"5": {"base_model": "acme/a"}, "6": {"seed": "1"}}')
    assert Settings.load().training.allowed_base_models == ("acme/*",)
    monkeypatch.setenv("FITLOOP_PROJECTS", '{"7": {"base_model": "other/a"}}')
    with pytest.raises(BadConfig, match="FITLOOP_PROJECTS, project 7: Base model 'other/a' is not allowed"):
        Settings.load()


@pytest.mark.parametrize(
    ("controls", "found"),
    [("", (None, "own")), ("topic", ("topic", "own")), ('{"1": "topic"}', ("topic", "own")), ('{"9": "x"}', (None, "own"))],
)  # fmt: skip
def test_a_projects_control_overrides_the_general_one(
    monkeypatch: pytest.MonkeyPatch, controls: str, found: tuple[str | None, str]
) -> None:
    monkeypatch.setenv("FITLOOP_CONTROLS", controls)
    monkeypatch.setenv("FITLOOP_PROJECTS", '{"2": {"control": "own"}}')
    trigger = Settings.load().trigger
    assert (trigger.control_of(1), trigger.control_of(2)) == found


def test_wrong_controls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_CONTROLS", '{"5"')
    with pytest.raises(BadConfig, match="FITLOOP_CONTROLS: .*Give names of controls"):
        Settings.load()


def test_a_variable_named_as_a_field_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """USERNAME is set by many a desktop, and would be half a login."""
    for name in ("URL", "USERNAME", "LEVEL", "FITLOOP_USERNAME", "FITLOOP_LABEL_STUDIO_URL"):
        monkeypatch.setenv(name, "ERROR")
    settings = Settings.load()
    assert (settings.label_studio.url, settings.auth.username, settings.logging.level) == (
        "http://localhost:8080",
        "",
        "INFO",
    )
