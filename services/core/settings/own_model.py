"""Settings of classes of the operator's, subclasses of `LabelStudioMLBase` that train and predict in processes of their own."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.core.settings.group import Group, Inside

_CLASS: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OWN_KEYS: Final = re.compile(
    r"AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|WEB_IDENTITY_TOKEN_FILE|CONTAINER_\w+)"
    r"|BASIC_AUTH_(?:USER|PASS)|FITLOOP_\w+|KUBECONFIG|KUBERNETES_\w+",
    re.IGNORECASE,
)
"""What gives access to the bucket, to Fitloop or to the cluster."""


def class_name(text: str) -> str:
    """Return the name of a class as it is. Raises ValueError unless it is `package.module:Class`."""
    if not _CLASS.fullmatch(text):
        raise ValueError(
            "it must name a class as package.module:Class, such as sentiment.model:SentimentClassifier"
        )
    return text


class OwnModelSettings(Group):
    """How a class of the operator's runs (`METHOD=label-studio-ml`); see own-models.md."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_MODEL_")

    path: Annotated[str, Inside.LINE] = ""
    """Folders with the modules of the class and with its libraries, separated by colons: only its worker processes look there, before
    they look where Fitloop's own libraries are."""
    variables: Annotated[tuple[str, ...], NoDecode] = ()
    """Environment variables that the class reads, by names separated by commas, besides those that it always gets: see own-models.md. Keys of
    the bucket, of Fitloop and of the cluster are refused."""
    predict_seconds: float = Field(60.0, gt=0)
    """Seconds that `predict` may take for one call; then its worker process is ended, and another one started."""
    workers: int = Field(4, ge=1)
    """Worker processes kept at once, one for each project and version; the least recently used one is ended."""
    worker_mb: float = Field(0.0, ge=0)
    """Megabytes of memory that one worker process may use; 0: no limit but the process's own, or its pod's."""
    files_mb: float = Field(2048.0, gt=0)
    """Megabytes that `fit` may leave in MODEL_DIR, which become files of the version; beyond it the run fails."""

    @field_validator("variables", mode="before")
    @classmethod
    def _are_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))
        if odd := next((name for name in names if not _VARIABLE.fullmatch(name)), ""):
            raise ValueError(f"{odd[:60]!r} is not a name: list variables' names only, without values")
        if own := next((name for name in names if _OWN_KEYS.fullmatch(name)), ""):
            raise ValueError(
                f"{own} is Fitloop's own: give the class a variable of another name with a key of its own"
            )
        return names
