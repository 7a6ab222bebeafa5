"""Settings of the adapter: Label Studio, authentication, storage, and when to train."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.core.errors import BadConfig
from services.core.settings.group import Group, Inside, http_url
from services.core.settings.parameters import EACH_N_UPDATES, parse_controls, parse_project_settings


class LabelStudioSettings(Group):
    """Where Label Studio is, and how to call it."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_LABEL_STUDIO_")

    url: str = Field(
        "http://localhost:8080", validation_alias=AliasChoices("LABEL_STUDIO_HOST", "LABEL_STUDIO_URL")
    )
    """Label Studio's URL as seen from here. The one in requests is ignored: it is often wrong."""
    api_key: SecretStr = Field(SecretStr(""), validation_alias="LABEL_STUDIO_API_KEY")
    """A personal access token or a legacy token of a user who may read and change the projects."""
    public_url: str = ""
    """Label Studio's URL for browsers, for links on the status page; unset: the URL above."""
    ca_file: Path | None = None
    """CA bundle (PEM) for Label Studio's certificate, in addition to the public CAs."""
    timeout_seconds: float = Field(30.0, gt=0)
    """Timeout of one request to Label Studio, in seconds."""
    page_size: int = Field(500, ge=1)
    """Tasks per page when labels are read: larger pages mean fewer requests and more memory."""

    @field_validator("url", "public_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value, instead="set LABEL_STUDIO_API_KEY instead") if value else ""


class AuthSettings(Group):
    """Who may call the backend."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_")

    username: Annotated[str, Inside.EXACT] = Field("", validation_alias="BASIC_AUTH_USER")
    """User name for Basic auth; with a password, every route except the probes requires it."""
    password: Annotated[SecretStr, Inside.EXACT] = Field(SecretStr(""), validation_alias="BASIC_AUTH_PASS")
    """Password for Basic auth. A trailing line break is removed; a password that begins or ends with a blank is refused,
    because Label Studio sends it without the blank."""
    secret_path: str = Field("", repr=False)
    """A path of 16 or more letters, digits, '-' and '_' that gives access, without a password, to the routes
    that Label Studio calls (`/health`, `/setup`, `/predict`, `/webhook`, `/versions`) and to nothing else, because its
    webhooks carry no credentials: connect `http://host:9090/<path>`. Pages and the API still require the password, and
    are closed if none is set."""
    required: bool = Field(False, validation_alias="FITLOOP_AUTH_REQUIRED")
    """Exit at startup if neither a password nor a secret path is set. The chart sets it, so that a Secret that is missing,
    or whose keys have other names, leaves nothing open."""
    anonymous: bool = False
    """Answer everyone who reaches the port, without a password: they may train and promote models. Without credentials,
    `fitloop adapter`, and a `fitloop local` that other machines can reach, start only if this is set."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names, separated by commas, that are answered besides `localhost`, `127.0.0.1` and `::1` if there is no
    password: otherwise any web page could reach a Fitloop on its reader's machine (DNS rebinding). With
    `FITLOOP_ANONYMOUS` and no names, all hosts are answered."""
    path_prefix: str = Field("", pattern=r"^(/.*)?$")
    """Path prefix that an ingress passes on, such as `/fitloop`; it is stripped."""

    @property
    def has_credentials(self) -> bool:
        """Return whether a request needs a password or the secret path."""
        return bool(self.password.get_secret_value() or self.secret_path)

    @field_validator("secret_path")
    @classmethod
    def _is_hard_to_guess(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", value):  # not repeated: it is a secret
            raise ValueError(
                "it must be 16 or more letters, digits, '-' and '_', such as the output of `openssl rand -hex 24`"
            )
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _are_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if odd := next((name for name in names if not re.fullmatch(r"[\w.:\[\]-]+", name)), ""):
            raise ValueError(
                f"{odd[:60]!r} is not a host name: list names only, such as fitloop.example,10.0.0.7"
            )
        return names

    @field_validator("username")
    @classmethod
    def _holds_no_colon(cls, value: str) -> str:
        if ":" in value:
            raise ValueError("it contains a ':', which ends a user name in Basic auth: choose another")
        return value

    def check_credentials(self) -> None:
        """Raise BadConfig if credentials are required and missing, or missing without FITLOOP_ANONYMOUS."""
        if self.has_credentials:
            return
        if self.required:
            raise BadConfig(
                "FITLOOP_AUTH_REQUIRED is set, and neither BASIC_AUTH_USER and BASIC_AUTH_PASS nor FITLOOP_SECRET_PATH is: "
                "check that the Secret of auth.existingSecret exists, and that auth.existingSecretKeys names its keys."
            )
        if not self.anonymous:
            raise BadConfig(
                "Neither BASIC_AUTH_USER and BASIC_AUTH_PASS nor FITLOOP_SECRET_PATH is set, so anyone could train and "
                "promote models: set them, or FITLOOP_ANONYMOUS=true if that is intended."
            )


class StorageSettings(Group):
    """Where models, runs and state are kept."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_")

    model_dir: Path = Field(Path("fitloop-data"), validation_alias="MODEL_DIR")
    """Folder of `fitloop local`: all its data is here, unless `FITLOOP_STORE` names a store."""
    store: Annotated[str, Inside.LINE] = ""
    """Where versions and runs are kept, such as s3://bucket/prefix/; unset: in `MODEL_DIR`."""
    cache_dir: Path | None = None
    """Folder for cached copies of objects in a bucket; unset: a temporary one."""
    cache_mb: float = Field(4096.0, gt=0)
    """Megabytes of cached copies: beyond that, the least recently used are deleted, but none that was used in the last ten
    minutes, because it may still be loading."""
    keep_versions: int = Field(10, ge=1)
    """Versions kept for each project, besides those that are served, were served last, or are younger than
    `FITLOOP_KEEP_DAYS`."""
    keep_days: float = Field(30.0, ge=0)
    """Days for which no version is deleted, so that a rollback stays possible."""
    keep_runs_days: float = Field(90.0, ge=0)
    """Days for which a run's request, status and log are kept."""


class TriggerSettings(Group):
    """When a run starts."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_")

    every_n_updates: int = Field(10, ge=1, validation_alias="START_TRAINING_EACH_N_UPDATES")
    """Number of labelled tasks that must have changed since the last run to trigger the next run."""
    debounce_seconds: float = Field(2.0, ge=0)
    """Seconds between two counts of a project's labels that events cause, at least. The first event of a quiet project has
    them counted at once; those that follow, and those during a run, are counted together."""
    reconcile_seconds: float = Field(15.0, gt=0)
    """Seconds between polls of a project whose labels have just changed, because a webhook may be lost."""
    reconcile_max_seconds: float = Field(60.0, gt=0)
    """Most seconds between polls: the interval doubles while nothing changes, and any event or
    change resets it."""
    max_active_runs: int = Field(1, ge=1)
    """Runs that may have started and not ended at once, over all projects; others are queued, first in, first out. Runs that
    wait for resources, such as a GPU, do not count, up to 20 of them."""
    min_seconds_between_runs: float = Field(0.0, ge=0)
    """Minimum seconds between the end of a project's run and the next one, unless a person requests it; 0: none."""
    embed_seconds: float = Field(300.0, ge=0)
    """Seconds for which one run may compute features of unlabelled texts after a project was connected or tasks were imported,
    so that later runs have suggestions for all of them at once; what is left is computed by the next one. Such a run gives way to every
    training run. 0: none starts, and no version is made from label names."""
    cold_start: bool = True
    """Whether a project without labels gets suggestions from the names of its labels: a version that is made from these and its
    unlabelled texts, within `FITLOOP_EMBED_SECONDS`, is served at once and is not evaluated. The first version that is trained on labels
    replaces it once it is right more often."""
    projects: Annotated[dict[int, dict[str, str]], NoDecode, Inside.LINES] = Field({})
    """Settings of single projects by their ids, as JSON: `{"5": {"method": "finetune",
    "start_training_each_n_updates": "20"}}`. Names are those of a run's parameters; a backend's extra parameters in
    Label Studio take precedence."""

    controls: Annotated[str | dict[int, str], NoDecode] = ""
    """The control of the label config to train on: a name, or several separated by commas, of which the first
    usable one in each label config is used; or one for each project by its id, as JSON: `{"5": "topic"}`. Unset: the first usable
    control that is not conditional. `control` of a project, and of its backend's extra parameters, take precedence."""

    @field_validator("controls", mode="before")
    @classmethod
    def _are_names(cls, value: object) -> str | dict[int, str]:
        return parse_controls(value)

    @field_validator("projects", mode="before")
    @classmethod
    def _is_known(cls, value: object) -> dict[int, dict[str, str]]:
        return parse_project_settings(value)

    def of(self, project_id: int) -> TriggerSettings:
        """Return these settings for one project."""
        own = self.projects.get(project_id, {}).get(EACH_N_UPDATES)
        return self if own is None else self.model_copy(update={"every_n_updates": int(own)})

    def control_of(self, project_id: int) -> str | None:
        """Return the control to learn in a project as the settings name it, else None."""
        return self.parameters_of(project_id).get("control")

    def parameters_of(self, project_id: int) -> dict[str, str]:
        """Return the checked parameters of the project's runs, for `apply_overrides`."""
        general = self.controls if isinstance(self.controls, str) else self.controls.get(project_id, "")
        own = {**({"control": general} if general else {}), **self.projects.get(project_id, {})}
        return {name: text for name, text in own.items() if name != EACH_N_UPDATES}
