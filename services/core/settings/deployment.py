"""Settings of pods: object storage, cluster, rollout, logs, metrics, traces. The chart sets them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.core.settings.group import Group, Inside, http_url


class S3Settings(Group):
    """How to reach the object storage (S3, MinIO) if the store is an `s3://` URL."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_S3_")

    endpoint: str = Field(
        "https://s3.amazonaws.com",
        validation_alias=AliasChoices("FITLOOP_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    )
    """Address of the object storage, such as http://minio.minio.svc:9000."""
    region: str = Field(
        "", validation_alias=AliasChoices("FITLOOP_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
    )
    """Region of the bucket; unset: the storage is queried, which needs one more permission."""
    addressing: Literal["auto", "path", "host"] = "auto"
    """`path` puts the bucket into the path, `host` into the host's name; `auto` is `host` on AWS only."""
    ca_file: Path | None = None
    """CA bundle (PEM) for the storage's certificate."""
    access_key: SecretStr = Field(SecretStr(""), validation_alias="AWS_ACCESS_KEY_ID")
    """Access key; unset: `FITLOOP_S3_CREDENTIALS_DIR`, else the pod's identity."""
    secret_key: SecretStr = Field(SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY")
    """Its secret."""
    session_token: SecretStr = Field(SecretStr(""), validation_alias="AWS_SESSION_TOKEN")
    """Token of temporary keys."""
    credentials_dir: Path | None = None
    """Folder of a mounted Secret whose files are named AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; read again when
    they change, so that keys can be replaced without a restart."""
    timeout_seconds: float = Field(5.0, gt=0)
    """Seconds that the storage may take to answer one request. With its retries, a document is read or written within
    twice that, or it is an error; an adapter leads only while its lease lasts longer, so `fitloop adapter` refuses 6 or
    more."""

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(
            value, path=False, instead="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are what counts"
        )

    @property
    def write_seconds(self) -> float:
        """Return the longest time that writing a document may take, retries included."""
        return 2 * self.timeout_seconds


class ClusterSettings(Group):
    """Identity of a pod, and the services that it calls."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_")

    release: str = "fitloop"
    """Full name of the release: every object of a run begins with it."""
    namespace: str = ""
    """Namespace of the release; unset: that of the pod's service account."""
    pod_name: str = ""
    """The pod's name, by which it holds the Lease; unset: the host's name."""
    lease: str = "fitloop"
    """Name of the Lease that the leader holds; it owns the runs' Jobs."""
    job_template: Path = Path("/etc/fitloop/job/job.yaml")
    """Manifest of a run's Job as the chart renders it; name, labels, owner, args and env are set per run."""
    predictor_url: str = "http://fitloop-models"
    """URL of the predictors' Service."""
    predictor_workload: str = Field(
        "inferenceservice/fitloop", pattern=r"^(inferenceservice|deployment)/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
    )
    """What is patched for a rolling update: `inferenceservice/<name>` or `deployment/<name>`."""
    predictor_selector: Annotated[str, Inside.LINE] = "fitloop.io/predictor=fitloop"
    """Label selector of the predictors' pods."""
    predictor_port: int = 8080
    """Port of a predictor's KServe protocols."""
    predictor_state_port: int = 8081
    """Port of a predictor's /state."""
    predictor_token: SecretStr = SecretStr("")
    """Token that adapters send to predictors and predictors require; unset: predictors answer any client."""
    predictor_token_from: float = Field(0.0, ge=0)
    """Unix time before which a predictor answers requests without a token as well: for the minutes of an upgrade from
    a release whose adapters send none. A wrong token is refused at any time."""
    predict_timeout_seconds: float = Field(90.0, gt=0)
    """Seconds for an answer of the predictors, a retry included: less than Label Studio's own 100, or
    `fitloop adapter` does not start."""

    @field_validator("predictor_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)


class RolloutSettings(Group):
    """How a new version reaches the predictors."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_ROLLOUT_")

    mode: Literal["rolling", "reload"] = "reload"
    """`rolling` starts new pods that load the version before they are ready; `reload` has running pods load it beside
    what they hold."""
    deadline_seconds: float = Field(600.0, gt=0)
    """Seconds after which an unfinished rollout is undone, to be retried later."""
    min_interval_seconds: float = Field(60.0, ge=0)
    """Minimum seconds between the starts of two rolling updates: versions that arrive in between share the next one."""
    flip_seconds: float = Field(0.5, ge=0)
    """Seconds after the write at which all adapters announce the new version to Label Studio: two of their polls, or
    `fitloop adapter` does not start."""


class LoggingSettings(Group):
    """What is logged, and how."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_LOG_")

    level: str = Field("INFO", validation_alias="LOG_LEVEL")
    """DEBUG, INFO, WARNING or ERROR. No level writes texts, tokens or passwords."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is colours on a terminal and JSON elsewhere."""

    @field_validator("level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        level = value.upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError(f"{value[:40]!r} is not one of DEBUG, INFO, WARNING, ERROR")
        return level


class MetricsSettings(Group):
    """What is exported to Prometheus; docs/metrics.md lists all metrics."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_METRICS_")

    projects: int = Field(200, ge=1)
    """Projects that have series of their own; the rest share `other`, with their sum or the worst of them, or without a
    series where neither makes sense."""


class TracingSettings(Group):
    """Where traces are sent: an OpenTelemetry collector that accepts OTLP over HTTP. Needs the extra `tracing`."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_TRACES_")

    endpoint: str = Field("", repr=False)
    """The collector's address, such as http://collector:4318; unset: no traces. OpenTelemetry's own variables set the
    rest: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`."""
    disabled: bool = Field(False, validation_alias="OTEL_SDK_DISABLED")
    """Disables traces."""

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value, login=True) if value else ""

    @property
    def on(self) -> bool:
        return bool(self.endpoint) and not self.disabled

    @property
    def url(self) -> str:
        """Return the URL that spans are posted to."""
        path = "/v1/traces"
        return self.endpoint if self.endpoint.endswith(path) else f"{self.endpoint.rstrip('/')}{path}"
