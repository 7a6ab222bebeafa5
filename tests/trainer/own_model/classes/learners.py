"""Model classes that learn, or fail to, for runs with the labels `order`, `money` and `account`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

FOLDER = Path(os.environ["MODEL_DIR"])
LATER = os.environ.get("LEARNERS_LATER", "")
"""A file that `fit` makes, so that a test can add labels meanwhile; with `fit` waiting until it is gone."""


def choices(label: str) -> dict[str, Any]:
    region = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"result": [region], "score": 0.5}


class Counter(LabelStudioMLBase):
    """Counts its runs in a file, and always answers the label that was its turn."""

    def fit(self, event: str, data: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        assert event == "START_TRAINING"
        assert data["annotation"]["project"] == data["project"]["id"] == data["id"] == 1
        assert set(parameters) <= {"learning_rate"}
        runs = self._runs() + 1
        (FOLDER / "deep").mkdir(exist_ok=True)
        (FOLDER / "deep" / "runs.txt").write_text(str(runs))
        return {"metrics": {"accuracy": 0.875, "runs": runs, "note": "no number"}}

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        labels = re.findall(r'<Choice value="(\w+)"', str(self.get("label_config")))
        return [choices(labels[self._runs() % len(labels)]) for _ in tasks]

    def _runs(self) -> int:
        path = FOLDER / "deep" / "runs.txt"
        return int(path.read_text()) if path.exists() else 0


class Reader(LabelStudioMLBase):
    """Answers the label whose words a text has, from its first run on; before, or if it is told to forget, always the same."""

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> None:
        self.set("knows", "no" if os.environ.get("LEARNERS_FORGET") else "yes")
        self.set("runs", str(int(self.get("runs") or 0) + 1))
        if LATER:
            Path(LATER).touch()
            while Path(LATER).exists():
                pass

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        return [choices(self._label(task["data"]["text"])) for task in tasks]

    def _label(self, text: str) -> str:
        if self.get("knows") != "yes":
            return "order"
        return "money" if "money" in text or "shoes" in text else "account" if "account" in text else "order"


class Still(LabelStudioMLBase):
    """Trains nothing."""

    def setup(self) -> None:
        self.set("model_version", "Still-v1")

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> None:
        self.set("model_version", "Still-v1")

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        return [choices("order") for _ in tasks]


class OnlyPredicts(LabelStudioMLBase):
    """Has no `fit`, and answers nothing without a context."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        return [] if context is None else [choices("order") for _ in tasks]


class FitsNothing(OnlyPredicts):
    """Answers labels that the label config does not have."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        return [choices("unknown") for _ in tasks]


class BreaksInPredict(Counter):
    """Trains, and then does not answer."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        raise KeyError(os.environ["LABEL_STUDIO_API_KEY"])


class Large(Counter):
    """Leaves three megabytes."""

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        (FOLDER / "model.bin").write_bytes(bytes(3_000_000))
        return {}
