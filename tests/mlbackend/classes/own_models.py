"""Model classes as users write them, good and bad."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from label_studio_ml.model import LabelStudioMLBase
from label_studio_ml.response import ModelResponse

MODEL_DIR = os.getenv("MODEL_DIR", ".")


def choices(label: str) -> dict[str, Any]:
    """Return a prediction of `<Choices name="topic" toName="text">`."""
    region = {"from_name": "topic", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"result": [region], "score": 0.75, "model_version": "my own name"}


class Keeper(LabelStudioMLBase):
    """Keeps what it learned with `self.set`, and answers it."""

    def setup(self) -> None:
        print("a class prints what it likes")
        self.set("model_version", "Keeper-v1")

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> ModelResponse:
        label = self.get("learned") or "sport"
        return ModelResponse(predictions=[choices(label) for _ in tasks], model_version="Keeper-v1")

    def fit(self, event: str, data: dict[str, Any], label: str = "", **_: Any) -> dict[str, Any]:
        learned = label or ("politics" if self.get("learned") == "sport" else "sport")
        self.set("learned", learned)
        return {"metrics": {"accuracy": 0.5}, "event": event, "project": data["project"]["id"]}


class Spans(LabelStudioMLBase):
    """Marks the first word of each text as a span, leaves out texts without one, and one label does not exist."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        return [self._prediction(task["data"]["text"]) for task in tasks if task["data"]["text"]]

    def _prediction(self, text: str) -> dict[str, Any]:
        word = text.split(maxsplit=1)[0]
        return {"result": [_span(word, "PER"), _span(word, "NO SUCH LABEL")], "score": 1.5}


def _span(word: str, label: str) -> dict[str, Any]:
    value = {"start": 0, "end": len(word), "text": word, "labels": [label]}
    return {"id": label[:4], "from_name": "label", "to_name": "text", "type": "labels", "value": value}


class Rectangles(LabelStudioMLBase):
    """Answers one rectangle of each image, and one that is outside."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> dict[str, Any]:
        return {"predictions": [{"result": [_box(10), _box(150)], "score": 0.5} for _ in tasks]}


def _box(x: float) -> dict[str, Any]:
    value = {"x": x, "y": 5, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["Car"]}
    return {"from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value}


class Interactive(LabelStudioMLBase):
    """Answers only what the annotator has begun."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> ModelResponse:
        if not context:
            return ModelResponse(predictions=[])
        return ModelResponse(predictions=[choices(context["result"][0]["value"]["choices"][0])])


class Unruly(LabelStudioMLBase):
    """Does what its task's text says."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> Any:
        return getattr(self, tasks[0]["data"]["text"])(tasks)

    def raises(self, _: Any) -> Any:
        raise KeyError(os.environ["LABEL_STUDIO_API_KEY"])

    def exits(self, _: Any) -> Any:
        sys.exit(3)

    def dies(self, _: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(self, _: Any) -> Any:
        time.sleep(3600)

    def leaks(self, _: Any) -> Any:
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1 << 20)) * 8)

    def answers_too_many(self, tasks: list[Any]) -> Any:
        return [choices("sport")] * (len(tasks) + 1)

    def answers_text(self, _: Any) -> Any:
        return "sport"

    def answers_objects(self, tasks: list[Any]) -> Any:
        return [object() for _ in tasks]

    def answers_none(self, _: Any) -> Any:
        return None

    def tells_environment(self, _: Any) -> Any:
        value = {"choices": sorted(os.environ)}
        return [{"result": [{"from_name": "a", "to_name": "b", "type": "choices", "value": value}]}]


class Fragile(LabelStudioMLBase):
    """Answers, unless a text tells it not to."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
        texts = [task["data"]["text"] for task in tasks]
        if "hang" in texts:
            time.sleep(3600)
        if "raise" in texts:
            raise ValueError("no text like that")
        return [choices("sport") for _ in texts]


class BrokenSetup(LabelStudioMLBase):
    """Cannot be built."""

    def setup(self) -> None:
        raise ValueError("there is no model file")


class SlowSetup(LabelStudioMLBase):
    """Never is ready."""

    def setup(self) -> None:
        time.sleep(3600)


class BrokenFit(LabelStudioMLBase):
    """Cannot learn."""

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> Any:
        return data["annotation"]["no such key"]


class SlowFit(LabelStudioMLBase):
    """Never ends."""

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> Any:
        time.sleep(3600)


class Writer(LabelStudioMLBase):
    """Writes so many megabytes into MODEL_DIR."""

    def fit(self, event: str, data: dict[str, Any], megabytes: str = "1", **_: Any) -> None:
        with (Path(MODEL_DIR) / "model.bin").open("wb") as file:
            for _number in range(int(megabytes)):
                file.write(os.urandom(1 << 20))


not_a_class = "text"
