"""Model classes of users for tests: over the stand-in library, and over the real one where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.mlbackend.model_class import ModelClass, WorkerSettings

_FOLDER = Path(__file__).parents[1] / "mlbackend"
STAND_IN = _FOLDER / "standin"
"""The folder that holds the stand-in of the library, with its documented interface."""
REAL_LIBRARY = "FITLOOP_TEST_LABEL_STUDIO_ML"
"""Names a site-packages with label-studio-ml in it."""
CHOICES = (
    '<View><Text name="text" value="$text"/><Choices name="topic" toName="text">'
    '<Choice value="sport"/><Choice value="politics"/></Choices></View>'
)
SPANS = (
    '<View><Labels name="label" toName="text"><Label value="PER"/><Label value="LOC"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
RECTANGLES = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">'
    '<Label value="Car"/></RectangleLabels></View>'
)
API_KEY = "a-key-of-label-studio-0123"
SETTINGS = WorkerSettings("http://label-studio:8080", API_KEY, start_seconds=120, predict_seconds=120)


def python_path(library: str = "stand-in") -> str:
    """Return the PYTHONPATH for `stand-in` or `real`; skips the test if there is no real library."""
    if library == "stand-in":
        return os.pathsep.join([str(_FOLDER / "classes"), str(STAND_IN)])
    if not (real := os.environ.get(REAL_LIBRARY)):
        pytest.skip(f"{REAL_LIBRARY} does not name a site-packages with label-studio-ml")
    return os.pathsep.join([str(_FOLDER / "classes"), real])


def model_class(name: str, label_config: str = CHOICES, module: str = "own_models") -> ModelClass:
    """Return one of the classes of tests/mlbackend/classes, for project 5."""
    return ModelClass(f"{module}:{name}", 5, label_config)


def tasks_of(*texts: str) -> list[dict[str, object]]:
    """Return tasks with these texts, numbered from 1."""
    return [{"id": number, "data": {"text": text}} for number, text in enumerate(texts, 1)]


def start_training() -> dict[str, object]:
    """Return the data of START_TRAINING."""
    return {"action": "START_TRAINING", "project": {"id": 5}, "annotation": {"project": 5}}
