"""Model classes for tests with a real Label Studio, as users write them."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from label_studio_ml.model import LabelStudioMLBase
from label_studio_ml.response import ModelResponse

MODEL_DIR = Path(os.getenv("MODEL_DIR", "."))
ADDRESS = os.getenv("LABEL_STUDIO_HOST", "http://localhost:8080")
KEY = os.getenv("LABEL_STUDIO_API_KEY", "")


class Words(LabelStudioMLBase):
    """Counts the words of each label's texts, and answers the label whose words a text has."""

    def setup(self) -> None:
        self.set("model_version", "Words-v0.0.1")

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        project = data["annotation"]["project"]
        rows = httpx.get(
            f"{ADDRESS}/api/projects/{project}/export",
            params={"exportType": "JSON"},
            headers={"Authorization": f"Token {KEY}"},
            timeout=60,
        ).json()
        words: dict[str, Counter[str]] = {}
        for row in rows:
            label = row["annotations"][0]["result"][0]["value"]["choices"][0]
            words.setdefault(label, Counter()).update(row["data"]["text"].lower().split())
        (MODEL_DIR / "words.json").write_text(json.dumps(words))
        self.set("texts", str(len(rows)))
        return {"metrics": {"texts": len(rows)}}

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> ModelResponse:
        words = json.loads((MODEL_DIR / "words.json").read_text())
        predictions = [_prediction(words, task["data"]["text"]) for task in tasks]
        return ModelResponse(predictions=predictions, model_version=self.get("model_version"))


def _prediction(words: dict[str, dict[str, int]], text: str) -> dict[str, Any]:
    scores = {
        label: sum(min(1, found.get(word, 0)) for word in text.lower().split())
        for label, found in words.items()
    }
    label = max(scores, key=lambda one: scores[one])
    region = {"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"result": [region], "score": 0.5}


class Repeats(LabelStudioMLBase):
    """Marks each place of the word that an annotator has marked once."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> ModelResponse:
        if not context:
            return ModelResponse(predictions=[])
        value = context["result"][0]["value"]
        return ModelResponse(predictions=[_marked(task["data"]["text"], value) for task in tasks])


def _marked(text: str, value: dict[str, Any]) -> dict[str, Any]:
    word = value["text"]
    starts = [place for place in range(len(text)) if text.startswith(word, place)]
    result = [
        {
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {"start": start, "end": start + len(word), "text": word, "labels": value["labels"]},
        }
        for start in starts
    ]
    return {"result": result, "score": 1.0}
