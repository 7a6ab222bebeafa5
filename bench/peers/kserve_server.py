"""A model behind KServe's ModelServer as its own server for encoders has it: a request is one batch, padded to its longest text.

`python -m bench.peers.kserve_server FOLDER --http_port=PORT`. No torch code of KServe is used, which needs vLLM.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from kserve import Model, ModelServer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MAX_LENGTH = 256


class PaddedBatches(Model):  # type: ignore[misc]  # kserve has no types
    def __init__(self, folder: str) -> None:
        super().__init__("model")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        auto: Any = AutoModelForSequenceClassification
        self._model = auto.from_pretrained(folder).eval()
        self.ready = True

    def predict(self, payload: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        """Answer a label and its probability for each text."""
        encoded = self._tokenizer(
            payload["instances"], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            probabilities = self._model(**encoded).logits.softmax(-1)
        best = probabilities.max(-1)
        names = self._model.config.id2label
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"predictions": [{"label": names[index], "score": score} for index, score in found]}


if __name__ == "__main__":
    folder = sys.argv.pop(1)
    ModelServer(enable_grpc=False, enable_latency_logging=False).start([PaddedBatches(folder)])
