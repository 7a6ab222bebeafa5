"""A version as one ONNX graph, from token ids to logits."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from services.core.domain import EncoderManifest, Manifest
from services.core.errors import BadConfig, EngineError
from services.engine.encoder import PROJECTION
from services.engine.head import FILE, Head, read_head
from services.engine.model import CLASSIFIER
from services.engine.pooling import Pooler, pooler_of
from services.engine.tokenise import encode, open_tokenizer, pad_id_of, read_config
from services.engine.torch import TorchEngine, encoder_of, forward, pad_batch
from services.engine.whole_model import read_sentence_transformers
from services.trainer.methods.pooled import dense, pool
from services.trainer.publishing.quantised_graph import export

_TEXTS: Final = ("ok", "When will my order arrive?", "a long text " * 40, "Привет, мир! 你好 🙂")
_TOLERANCE: Final = 1e-4
_COPIED: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "LICENSE*", "NOTICE*")


class _Graph(nn.Module):
    """(ids, mask) to logits that are divided by the temperature."""

    def __init__(self, model: nn.Module, pooler: Pooler | None, head: Head) -> None:
        super().__init__()
        self.model, self._pooler, self._head = model, pooler, head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) twice, to (texts, labels)."""
        if self._pooler is None:
            logits = forward(self.model, input_ids, attention_mask).logits
        else:
            hidden = forward(encoder_of(self.model), input_ids, attention_mask).last_hidden_state
            logits = pool(hidden, attention_mask, self._pooler)
        for layer in self._head.layers:
            logits = dense(logits, layer)
        return torch.as_tensor(logits / self._head.temperature)


def write_onnx(
    folder: Path,
    version: Path,
    encoder_folder: Path | None,
    manifest: Manifest,
    encoder: EncoderManifest | None,
) -> None:
    """Write model.onnx, tokenizer.json and config.json into `folder`, and compare its answers with fp32's.

    `version`: the folder of the version. Raises BadConfig if a library is missing, EngineError if the graph cannot be made or
    answers something else, OSError.
    """
    check_libraries()
    base = encoder_folder or version
    config, tokenizer = read_config(base), open_tokenizer(base, manifest.artefact.max_length)
    pooler, head = _parts(version, encoder_folder, manifest, encoder)
    width = encoder.width if encoder else len(manifest.labels)
    engine = TorchEngine(base, pooler, width, pad_id_of(config, tokenizer), padded=manifest.artefact.padded)
    prompt = encoder.pooling.prompt if encoder else ""
    ids = encode(tokenizer, [f"{prompt}{text}" for text in _TEXTS])
    graph = _Graph(engine.model, pooler, head).eval()
    batch = pad_batch(ids, pad_id_of(config, tokenizer))
    with torch.inference_mode():
        expected = graph(*batch).numpy()
    export(graph, batch, folder / "model.onnx", "logits")
    _compare(folder / "model.onnx", batch, expected, Head((), 1.0, head.thresholds))
    for path in (path for pattern in _COPIED for path in base.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    written = json.dumps({**config, **_named(manifest)}, indent=1)
    (folder / "config.json").write_text(written, encoding="utf-8")


def _named(manifest: Manifest) -> dict[str, object]:
    """Return what config.json says of the labels."""
    kind = {"problem_type": "multi_label_classification"} if manifest.multi_label else {}
    return {
        "id2label": {str(number): label for number, label in enumerate(manifest.labels)},
        "label2id": {label: number for number, label in enumerate(manifest.labels)},
        **kind,
    }


def check_libraries() -> None:
    """Raise BadConfig unless the libraries that the export needs are installed."""
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise BadConfig(f"The ONNX export needs {', '.join(missing)}: run `pip install 'fitloop[trainer]'`.")


def _parts(
    version: Path, encoder_folder: Path | None, manifest: Manifest, encoder: EncoderManifest | None
) -> tuple[Pooler | None, Head]:
    """Return how features are pooled, and the head; without a pooler the model answers logits."""
    if encoder and encoder_folder:
        path = encoder_folder / PROJECTION / FILE
        projection = read_head(path).layers if path.is_file() else ()
        return pooler_of(encoder.pooling, projection), read_head(version / FILE)
    temperature = manifest.artefact.temperature
    if manifest.artefact.layout == CLASSIFIER:
        path = version / FILE
        return None, read_head(path) if path.is_file() else Head((), temperature)
    pooler, layers = read_sentence_transformers(version)
    return pooler, Head(layers, temperature)


def _compare(path: Path, batch: Sequence[torch.Tensor], expected: Any, head: Head) -> None:
    """Run the graph on the batch, and on its first text alone; raise EngineError if a probability differs from fp32's.

    `expected` are fp32's logits, and `head` makes probabilities of logits.
    """
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids, mask = (one.numpy() for one in batch)
    length = int(mask[0].sum())
    worst = 0.0
    for rows, columns in ((slice(None), slice(None)), (slice(0, 1), slice(0, length))):
        given = {"input_ids": ids[rows, columns], "attention_mask": mask[rows, columns]}
        logits = np.asarray(session.run(["logits"], given)[0])
        found, right = head.calibrated(logits), head.calibrated(expected[rows])
        worst = max(worst, float(np.abs(found - right).max()))
    if not worst <= _TOLERANCE:
        raise EngineError(
            f"The ONNX model's probabilities differ from fp32's by {worst:.2g}: it was not written."
        )
