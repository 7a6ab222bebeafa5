"""All settings, read once from the environment, then frozen.

Names known from Label Studio's example backends keep working; all others begin with `FITLOOP_`. `Settings.load()` reports all
problems in one message. docs/configuration.md is generated from these classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr, ValidationError

from services.core.errors import BadConfig, BadRequest
from services.core.redaction import register_secrets
from services.core.settings.adapter import (
    AuthSettings,
    LabelStudioSettings,
    StorageSettings,
    TriggerSettings,
)
from services.core.settings.deployment import (
    ClusterSettings,
    LoggingSettings,
    MetricsSettings,
    RolloutSettings,
    S3Settings,
    TracingSettings,
)
from services.core.settings.group import Group, Inside, trim, value_problem, variables
from services.core.settings.own_model import OwnModelSettings
from services.core.settings.parameters import apply_overrides
from services.core.settings.training import ServingSettings, TrainingSettings

__all__ = [
    "GROUPS",
    "AuthSettings",
    "ClusterSettings",
    "LabelStudioSettings",
    "LoggingSettings",
    "MetricsSettings",
    "OwnModelSettings",
    "RolloutSettings",
    "S3Settings",
    "ServingSettings",
    "Settings",
    "StorageSettings",
    "TracingSettings",
    "TrainingSettings",
    "TriggerSettings",
    "conflicting_variables",
    "variables",
]

GROUPS: dict[str, type[Group]] = {
    "label_studio": LabelStudioSettings,
    "auth": AuthSettings,
    "storage": StorageSettings,
    "s3": S3Settings,
    "trigger": TriggerSettings,
    "training": TrainingSettings,
    "own_model": OwnModelSettings,
    "serving": ServingSettings,
    "logging": LoggingSettings,
    "metrics": MetricsSettings,
    "tracing": TracingSettings,
    "cluster": ClusterSettings,
    "rollout": RolloutSettings,
}


_FOREIGN: Final = re.compile(
    r"(?:https?|all|no)_proxy|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|KUBECONFIG"
    r"|AWS_(?:WEB_IDENTITY_TOKEN_FILE|ROLE_ARN|ROLE_SESSION_NAME|CONTAINER_\w+|ENDPOINT_URL_STS)"
    r"|HF_\w+|HUGGING_FACE_HUB_TOKEN|HUGGINGFACE_HUB_CACHE|TRANSFORMERS_CACHE|OTEL_\w+",
    re.IGNORECASE,
)
"""Addresses, paths and tokens: some may contain a blank, none a line break."""

_FOREIGN_TOKENS: Final = frozenset(
    {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"}
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All groups of settings. Use `load()`; tests build them directly."""

    label_studio: LabelStudioSettings = field(default_factory=LabelStudioSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    trigger: TriggerSettings = field(default_factory=TriggerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    own_model: OwnModelSettings = field(default_factory=OwnModelSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)

    def secrets(self) -> tuple[str, ...]:
        """Return what no log may contain: passwords, tokens, keys and the secret path."""
        groups = (getattr(self, name) for name in GROUPS)
        values = (value for group in groups for value in dict(group).values())
        found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        password = self.auth.password.get_secret_value()
        pair = f"{self.auth.username}:{password}" if password else ""  # as Basic auth sends it
        return tuple(filter(None, [*found, self.auth.secret_path, pair]))

    @classmethod
    def load(cls) -> Settings:
        """Read the environment. Raises BadConfig with every problem at once."""
        groups: dict[str, Group] = {}
        problems: list[str] = []
        for name, group in GROUPS.items():
            try:
                groups[name] = group()
            except ValidationError as error:
                problems += [_problem(group, issue["loc"], issue["msg"]) for issue in error.errors()]
        problems += trim_foreign_variables(os.environ)
        if half := _incomplete_login(groups.get("auth")):
            problems.append(half)
        problems += _wrong_models(groups.get("trigger"), groups.get("training"))
        if problems:
            raise BadConfig("These settings are wrong: " + "; ".join(problems) + ".")
        found = cls(**groups)  # type: ignore[arg-type]  # each group is built by the class of its own name
        register_secrets([*found.secrets(), *foreign_secrets(os.environ)])
        return found


def _problem(group: type[Group], location: tuple[int | str, ...], message: str) -> str:
    return f"{_variable(group, location)}: {message.removeprefix('Value error, ')}"


def _variable(group: type[Group], location: tuple[int | str, ...]) -> str:
    """Return the variable that is set, or the preferred one."""
    name = str(location[0])
    fields = (field for field in group.model_fields if name in {field, *variables(group, field)})
    field = next(fields, None)
    if field is None:
        return name
    names = variables(group, field)
    return next((one for one in names if trim(os.environ.get(one, ""))), names[0])


def conflicting_variables() -> list[str]:
    """Return a message for each setting that two variables set to different values.

    AWS_ variables are ignored: they may be meant for other programs.
    """
    found: list[str] = []
    for group in GROUPS.values():
        for name in group.model_fields:
            names = [one for one in variables(group, name) if not one.startswith("AWS_")]
            given = {one: trim(os.environ.get(one, "")).rstrip("/") for one in names}
            first, *others = [one for one in names if given[one]] or [""]
            found += [
                f"{first} and {other} are both set, to different values: {first} is used. Unset one of them."
                for other in others
                if given[other] != given[first]
            ]
    return found


def _wrong_models(trigger: Group | None, training: Group | None) -> list[str]:
    """Return problems for projects whose settings name a base model that is not allowed, and contradictions of method and class."""
    if not isinstance(trigger, TriggerSettings) or not isinstance(training, TrainingSettings):
        return []
    general = training.parameters()
    problems, is_used = [], general.is_own_model or bool(training.allowed_models)
    if general.is_own_model and not general.model:
        problems.append(
            "METHOD is label-studio-ml, which needs a class: set FITLOOP_MODEL to package.module:Class"
        )
    for number in trigger.projects:
        own = trigger.parameters_of(number)
        try:
            training.check_allowed(own.get("base_model", training.base_model))
            is_used |= apply_overrides(general, own).is_own_model
        except BadRequest as error:
            problems.append(f"FITLOOP_PROJECTS, project {number}: {str(error).rstrip('.')}")
    if general.model and not is_used:
        problems.append(
            "FITLOOP_MODEL is set and no project uses it: set METHOD=label-studio-ml, or that method of a project in FITLOOP_PROJECTS"
        )
    return problems


def _incomplete_login(auth: Group | None) -> str:
    """Return a problem if only half a login is set: it would leave everything open."""
    if not isinstance(auth, AuthSettings) or bool(auth.username) == bool(auth.password.get_secret_value()):
        return ""
    there, absent = (
        ("BASIC_AUTH_USER", "BASIC_AUTH_PASS") if auth.username else ("BASIC_AUTH_PASS", "BASIC_AUTH_USER")
    )
    return f"{there} is set and {absent} is not: set both, or neither to let anyone in"


def trim_foreign_variables(environment: MutableMapping[str, str]) -> list[str]:
    """Trim variables of libraries in place; return a problem for each that cannot be used, without its value."""
    problems = []
    for name in [one for one in environment if _FOREIGN.fullmatch(one)]:
        given = environment[name]
        inside = Inside.TOKEN if name in _FOREIGN_TOKENS else Inside.LINE
        text = trim(given, inside)
        if problem := value_problem(text, inside):
            problems.append(f"{name}: {problem}")
        elif text != given:
            environment[name] = text
    return problems


def foreign_secrets(environment: Mapping[str, str]) -> list[str]:
    """Return the tokens among these variables, which no message may contain."""
    return [environment[name] for name in sorted(_FOREIGN_TOKENS) if environment.get(name)]
