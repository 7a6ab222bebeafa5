"""Which class of the user is meant, and how its process runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from services.core.errors import BadConfig
from services.core.settings import Settings

_MODEL: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class ModelClass:
    """A class, the project that it is built for, and the project's label config."""

    model: str
    """`package.module:Class`."""
    project_id: int
    label_config: str

    def __post_init__(self) -> None:
        """Raise BadConfig unless the class is named as it must be."""
        check_model(self.model)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a class's process runs."""

    label_studio_url: str = ""
    label_studio_api_key: str = field(default="", repr=False)
    variables: tuple[str, ...] = ()
    """Names, or patterns of names, of further variables that the class may read."""
    path: str = ""
    """Folders, separated as in PYTHONPATH, where the class and its libraries are looked for first."""
    threads: int = 1
    """Threads for the numeric libraries of the class."""
    memory_mb: float = 0.0
    """Megabytes of resident memory beyond which the process is ended; 0: no limit. Linux only."""
    start_seconds: float = 300.0
    """Seconds for importing the class and for its `setup`, which may download a model."""
    predict_seconds: float = 60.0
    """Seconds for one call of `predict`, unless the caller gives fewer."""


def check_model(model: str) -> None:
    """Raise BadConfig unless `model` has the form `package.module:Class`."""
    if not _MODEL.fullmatch(model):
        raise BadConfig(f"{model[:80]!r} names no class: write package.module:Class, such as model:NewModel.")


def worker_settings(settings: Settings) -> WorkerSettings:
    """Return how processes of classes run, as the settings say: with as many threads as this process computes with."""
    own, label_studio, serving = settings.own_model, settings.label_studio, settings.serving
    return WorkerSettings(
        label_studio_url=label_studio.url,
        label_studio_api_key=label_studio.api_key.get_secret_value(),
        variables=own.variables,
        path=own.path,
        threads=serving.workers * serving.threads,
        memory_mb=own.worker_mb,
        predict_seconds=own.predict_seconds,
    )
