"""Every setting, its unit and its reason. Read once from the environment, then frozen.

The names that users of Label Studio's example backends know keep working; all others begin with `FITLOOP_`.
`Settings.load()` reports every problem in one message. docs/configuration.md is generated from here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.core.domain import Method, Parameters
from services.core.errors import BadConfig


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )


def _cores() -> int:
    """Cores that this process may use; macOS cannot say, and gives all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _named(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class LabelStudioSettings(_Group):
    """Where Label Studio is, and how we may speak to it."""

    url: str = Field(
        "http://localhost:8080",
        validation_alias=_named("LABEL_STUDIO_HOST", "LABEL_STUDIO_URL"),
        description="Label Studio's address as seen from here. What a request says is not used: it is often wrong.",
    )
    api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=_named("LABEL_STUDIO_API_KEY"),
        description="A personal access token or a legacy token of a user who may read and change the projects.",
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        validation_alias=_named("FITLOOP_LABEL_STUDIO_TIMEOUT_SECONDS"),
        description="Seconds that one request to Label Studio may take.",
    )
    page_size: int = Field(
        500,
        ge=1,
        validation_alias=_named("FITLOOP_LABEL_STUDIO_PAGE_SIZE"),
        description="Tasks a page when labels are read: larger pages are fewer requests and more memory.",
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} must begin with http:// or https://")
        return value.rstrip("/")


class AuthSettings(_Group):
    """Who may call the backend."""

    username: str = Field(
        "",
        validation_alias=_named("BASIC_AUTH_USER"),
        description="User name of Basic auth; with a password, every route but the probes asks for it.",
    )
    password: SecretStr = Field(
        SecretStr(""), validation_alias=_named("BASIC_AUTH_PASS"), description="Password of Basic auth."
    )
    secret_path: str = Field(
        "",
        validation_alias=_named("FITLOOP_SECRET_PATH"),
        pattern=r"^[A-Za-z0-9_-]*$",
        description=(
            "A path prefix that stands for the password: Label Studio's webhooks carry no credentials, so connect "
            "http://host:9090/<prefix> and both requests and events pass."
        ),
    )


class StorageSettings(_Group):
    """Where models, runs and state are kept."""

    model_dir: Path = Field(
        Path("fitloop-data"),
        validation_alias=_named("MODEL_DIR"),
        description="Folder of `fitloop local`: everything that it knows is here.",
    )
    keep_versions: int = Field(
        10,
        ge=1,
        validation_alias=_named("FITLOOP_KEEP_VERSIONS"),
        description=(
            "Versions kept for each project, beside those that are served, were served last, or are younger than "
            "`FITLOOP_KEEP_DAYS`."
        ),
    )
    keep_days: float = Field(
        30.0,
        ge=0,
        validation_alias=_named("FITLOOP_KEEP_DAYS"),
        description="Days for which no version is deleted, so that a rollback is always possible.",
    )
    keep_runs_days: float = Field(
        90.0,
        ge=0,
        validation_alias=_named("FITLOOP_KEEP_RUNS_DAYS"),
        description="Days for which a run's request, status and log are kept.",
    )


class TriggerSettings(_Group):
    """When a run begins."""

    every_n_updates: int = Field(
        10,
        ge=1,
        validation_alias=_named("START_TRAINING_EACH_N_UPDATES"),
        description="Labelled tasks that must have changed since the last run's snapshot before the next begins.",
    )
    debounce_seconds: float = Field(
        2.0,
        ge=0,
        validation_alias=_named("FITLOOP_DEBOUNCE_SECONDS"),
        description="Seconds of quiet after an event before labels are counted, so that a burst makes one run.",
    )
    reconcile_seconds: float = Field(
        15.0,
        gt=0,
        validation_alias=_named("FITLOOP_RECONCILE_SECONDS"),
        description="Seconds between looks at Label Studio itself, because a webhook may be lost.",
    )


class TrainingSettings(_Group):
    """How a model is made, unless a project or a command says otherwise."""

    method: Method = Field(
        Method.AUTO,
        validation_alias=_named("METHOD", "FITLOOP_METHOD"),
        description="`auto`, `linear-probe`, `finetune` or `lp-ft`.",
    )
    base_model: str = Field(
        "bert-base-multilingual-cased",
        validation_alias=_named("BASELINE_MODEL_NAME"),
        description=(
            "The pre-trained encoder: a hub id or a folder. A sentence encoder (all-MiniLM-L6-v2, a multilingual e5) "
            "needs far fewer labels than the default."
        ),
    )
    model_name: str | None = Field(
        None,
        validation_alias=_named("FINETUNED_MODEL_NAME"),
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$",
        description="Stem of version names (`<name>-<n>`), and so of the backend's title; unset: the project's title.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        validation_alias=_named("LEARNING_RATE"),
        description="Step size of fine-tuning; unset: by rule.",
    )
    num_train_epochs: float | None = Field(
        None,
        gt=0,
        validation_alias=_named("NUM_TRAIN_EPOCHS"),
        description="Passes over the texts in fine-tuning; unset: by rule from how many there are.",
    )
    weight_decay: float | None = Field(
        None, ge=0, validation_alias=_named("WEIGHT_DECAY"), description="AdamW's weight decay; unset: 0.01."
    )
    budget_seconds: float = Field(
        60.0,
        gt=0,
        validation_alias=_named("FITLOOP_TRAINING_BUDGET_SECONDS"),
        description="Seconds that `auto` may spend on the stronger method after the first version is published.",
    )
    max_length: int = Field(
        256,
        ge=8,
        le=8192,
        validation_alias=_named("FITLOOP_MAX_LENGTH"),
        description="Tokens of a text that are read; the rest is cut off.",
    )
    checkpoint_seconds: float = Field(
        60.0,
        gt=0,
        validation_alias=_named("FITLOOP_CHECKPOINT_SECONDS"),
        description="Seconds between checkpoints of a fine-tune: what a killed process may lose.",
    )

    def parameters(self) -> Parameters:
        """The parameters of a run that nobody gave others for."""
        return Parameters(
            method=self.method,
            base_model=self.base_model,
            model_name=self.model_name,
            learning_rate=self.learning_rate,
            num_train_epochs=self.num_train_epochs,
            weight_decay=self.weight_decay,
            budget_seconds=self.budget_seconds,
            max_length=self.max_length,
        )


class ServingSettings(_Group):
    """How predictions are computed."""

    workers: int = Field(
        default_factory=_cores,
        ge=1,
        validation_alias=_named("WORKERS"),
        description="Streams that compute side by side; unset: one for each core that this process may use.",
    )
    threads: int = Field(
        1,
        ge=1,
        validation_alias=_named("THREADS"),
        description="Threads of each stream. Streams of one thread keep their speed beside a busy core.",
    )
    queue_texts: int = Field(
        20_000,
        ge=1,
        validation_alias=_named("FITLOOP_QUEUE_TEXTS"),
        description="Texts that may wait; beyond, /predict answers 503 with Retry-After.",
    )
    loaded_models: int = Field(
        8,
        ge=2,
        validation_alias=_named("FITLOOP_LOADED_MODELS"),
        description="Versions kept in memory; the least recently used leave.",
    )
    refresh_max_tasks: int = Field(
        10_000,
        ge=0,
        validation_alias=_named("FITLOOP_REFRESH_MAX_TASKS"),
        description="Unlabelled tasks that get fresh predictions after a promotion; 0 pushes none.",
    )


class LoggingSettings(_Group):
    """What is written to the log."""

    level: str = Field(
        "INFO",
        validation_alias=_named("LOG_LEVEL"),
        description="DEBUG, INFO, WARNING or ERROR. No level writes texts, tokens or passwords.",
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        validation_alias=_named("FITLOOP_LOG_FORMAT"),
        description="`auto` is colours on a terminal and JSON elsewhere.",
    )

    @field_validator("level", mode="before")
    @classmethod
    def _is_level(cls, value: object) -> str:
        level = str(value).upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError(f"{value!r} is not one of DEBUG, INFO, WARNING, ERROR")
        return level


GROUPS: dict[str, type[_Group]] = {
    "label_studio": LabelStudioSettings,
    "auth": AuthSettings,
    "storage": StorageSettings,
    "trigger": TriggerSettings,
    "training": TrainingSettings,
    "serving": ServingSettings,
    "logging": LoggingSettings,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All groups. Build with `load()`, or by hand in tests."""

    label_studio: LabelStudioSettings = field(default_factory=LabelStudioSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    trigger: TriggerSettings = field(default_factory=TriggerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)

    @classmethod
    def load(cls) -> Settings:
        """From the environment. Raises BadConfig with every problem at once."""
        groups, problems = {}, []
        for name, group in GROUPS.items():
            try:
                groups[name] = group()
            except ValidationError as error:
                problems += [f"{_variable(group, issue['loc'])}: {issue['msg']}" for issue in error.errors()]
        if problems:
            raise BadConfig("These settings are wrong: " + "; ".join(problems) + ".")
        return cls(**groups)  # type: ignore[arg-type]  # each group is built by the class of its own name


def variables(group: type[_Group], name: str) -> tuple[str, ...]:
    """The environment variables that set a field, the first one preferred."""
    alias = group.model_fields[name].validation_alias
    return (
        tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else (str(alias),)
    )


def _variable(group: type[_Group], location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return variables(group, name)[0] if name in group.model_fields else name
