"""Every setting, its unit and its reason. Read once from the environment, then frozen.

The names that users of Label Studio's example backends know keep working; all others begin with `FITLOOP_`.
`Settings.load()` reports every problem in one message. docs/configuration.md is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import SecretStr, ValidationError

from services.core.errors import BadConfig
from services.core.settings.adapter import (
    AuthSettings,
    LabelStudioSettings,
    StorageSettings,
    TriggerSettings,
)
from services.core.settings.cluster import ClusterSettings, RolloutSettings, S3Settings
from services.core.settings.group import Group, variables
from services.core.settings.models import ServingSettings, TrainingSettings
from services.core.settings.telemetry import LoggingSettings, MetricsSettings, TracingSettings

__all__ = [
    "GROUPS",
    "AuthSettings",
    "ClusterSettings",
    "LabelStudioSettings",
    "LoggingSettings",
    "MetricsSettings",
    "RolloutSettings",
    "S3Settings",
    "ServingSettings",
    "Settings",
    "StorageSettings",
    "TracingSettings",
    "TrainingSettings",
    "TriggerSettings",
    "variables",
]

GROUPS: dict[str, type[Group]] = {
    "label_studio": LabelStudioSettings,
    "auth": AuthSettings,
    "storage": StorageSettings,
    "s3": S3Settings,
    "trigger": TriggerSettings,
    "training": TrainingSettings,
    "serving": ServingSettings,
    "logging": LoggingSettings,
    "metrics": MetricsSettings,
    "tracing": TracingSettings,
    "cluster": ClusterSettings,
    "rollout": RolloutSettings,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All groups. Build with `load()`, or by hand in tests."""

    label_studio: LabelStudioSettings = field(default_factory=LabelStudioSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    trigger: TriggerSettings = field(default_factory=TriggerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)

    def secrets(self) -> tuple[str, ...]:
        """What no log may hold: every password, token and key, and the path that stands for one."""
        groups = (getattr(self, name) for name in GROUPS)
        values = (value for group in groups for value in dict(group).values())
        found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        return tuple(filter(None, [*found, self.auth.secret_path]))

    @classmethod
    def load(cls) -> Settings:
        """From the environment. Raises BadConfig with every problem at once."""
        groups: dict[str, Group] = {}
        problems: list[str] = []
        for name, group in GROUPS.items():
            try:
                groups[name] = group()
            except ValidationError as error:
                problems += [f"{_variable(group, issue['loc'])}: {issue['msg']}" for issue in error.errors()]
        if half := _half_a_login(groups.get("auth")):
            problems.append(half)
        if problems:
            raise BadConfig("These settings are wrong: " + "; ".join(problems) + ".")
        return cls(**groups)  # type: ignore[arg-type]  # each group is built by the class of its own name


def _variable(group: type[Group], location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return variables(group, name)[0] if name in group.model_fields else name


def _half_a_login(auth: Group | None) -> str:
    """A name without a password would leave the door open to everybody, whoever set it believing it shut."""
    if not isinstance(auth, AuthSettings) or bool(auth.username) == bool(auth.password.get_secret_value()):
        return ""
    there, absent = (
        ("BASIC_AUTH_USER", "BASIC_AUTH_PASS") if auth.username else ("BASIC_AUTH_PASS", "BASIC_AUTH_USER")
    )
    return f"{there} is set and {absent} is not: set both, or neither to let everybody in"
