"""What a process tells of itself: its log, its metrics, its traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from services.core.settings.group import Group, http_url, named


class LoggingSettings(Group):
    """What is written to the log."""

    level: str = Field(
        "INFO",
        validation_alias=named("LOG_LEVEL"),
        description="DEBUG, INFO, WARNING or ERROR. No level writes texts, tokens or passwords.",
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        validation_alias=named("FITLOOP_LOG_FORMAT"),
        description="`auto` is colours on a terminal and JSON elsewhere.",
    )

    @field_validator("level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        level = value.upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError(f"{value[:40]!r} is not one of DEBUG, INFO, WARNING, ERROR")
        return level


class MetricsSettings(Group):
    """What Prometheus is told; docs/metrics.md lists it all."""

    projects: int = Field(
        200,
        ge=1,
        validation_alias=named("FITLOOP_METRICS_PROJECTS"),
        description=(
            "Projects that have series of their own; those beyond are summed up as `other` where a sum says something, "
            "and left out elsewhere."
        ),
    )


class TracingSettings(Group):
    """Where traces go: an OpenTelemetry collector that takes OTLP over HTTP. Needs the extra `tracing`."""

    endpoint: str = Field(
        "",
        validation_alias=named("FITLOOP_TRACES_ENDPOINT"),
        repr=False,
        description=(
            "The collector's address, as http://collector:4318; unset: no traces. OpenTelemetry's own variables say the "
            "rest: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`."
        ),
    )
    disabled: bool = Field(
        False,
        validation_alias=named("OTEL_SDK_DISABLED"),
        description="Whether there are none all the same.",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value, login=True) if value else ""

    @property
    def on(self) -> bool:
        """Whether there are traces at all."""
        return bool(self.endpoint) and not self.disabled

    @property
    def url(self) -> str:
        """Where spans are posted to."""
        path = "/v1/traces"
        return self.endpoint if self.endpoint.endswith(path) else f"{self.endpoint.rstrip('/')}{path}"
