"""The int8 engine of an encoder: converted, and compared with fp32.

It is accepted if, on texts without labels, no answer changes that fp32 gives by a margin above 0.1, and probabilities differ
by 0.02 at most on average. Else fp32 is served, and the manifest says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.core.settings.training import available_cores
from services.engine.compute import Engine, sigmoid, softmax
from services.engine.ct2 import Ct2Engine
from services.engine.head import Layer
from services.engine.ort import OrtEngine
from services.engine.pooling import Pooler
from services.trainer.publishing import quantised_graph

CT2, ORT, TORCH = "ct2-int8", "ort-int8", "torch-fp32"
QUANTIZATION = "int8"
MAX_TEXTS = 500
MAX_TOKENS = 24_000
"""Tokens of the compared texts: with a large base model, 500 long texts in fp32 would take longer than the training."""
CONFIDENT_MARGIN = 0.1
MAX_MEAN_DIFFERENCE = 0.02

_LOADERS = {
    "bert": "BertLoader",
    "distilbert": "DistilBertLoader",
    "roberta": "RobertaLoader",
    "xlm-roberta": "XLMRobertaLoader",
    "camembert": "CamembertLoader",
    "electra": "BertLoader",
}
KINDS = tuple(_LOADERS)
"""Architectures with an int8 engine, whose classifiers are dense layers on the first token's vector."""


def compare(
    fp32: NDArray[np.float32], int8: NDArray[np.float32], temperature: float, *, several: bool = False
) -> tuple[str, str]:
    """Compare logits (texts, labels); return why int8 is refused (empty if it is not), and the figures.

    `several`: a text has all labels whose logits are 0 or more.
    """
    if not len(fp32):
        return "there was no text to compare it with fp32.", ""
    if not np.isfinite(int8).all():
        return "it answers numbers that are not finite.", ""
    found = (_compare_sets if several else _compare_answers)(fp32, int8, temperature)
    sure, difference = int((found.flips & (found.margin > CONFIDENT_MARGIN)).sum()), float(found.drift.mean())
    figures = (
        f"on {len(fp32)} texts {int(found.flips.sum())} answers differ, {sure} of them where fp32 is sure, "
        f"and their probability by {difference:.4f} on average."
    )
    if sure or difference > MAX_MEAN_DIFFERENCE:
        return figures, figures
    return "", f"int8 was compared with fp32: {figures}"


@dataclass(frozen=True, slots=True)
class _Differences:
    """Of answers; of their probabilities, those that fp32 gives alone: a mean over all labels would shrink with their number."""

    flips: NDArray[np.bool_]
    margin: NDArray[np.float32]
    """By which fp32 prefers its answer."""
    drift: NDArray[np.float32]
    """Of probabilities."""


def _compare_answers(
    fp32: NDArray[np.float32], int8: NDArray[np.float32], temperature: float
) -> _Differences:
    before, after = softmax(fp32, temperature), softmax(int8, temperature)
    ordered = np.sort(before, axis=1)
    margin = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0)
    rows, answers = np.arange(len(before)), before.argmax(axis=1)
    flips = np.asarray(answers != after.argmax(axis=1))
    return _Differences(flips, margin, np.abs(before[rows, answers] - after[rows, answers]))


def _compare_sets(fp32: NDArray[np.float32], int8: NDArray[np.float32], temperature: float) -> _Differences:
    """Compare each label of each text as an answer of two, of which the threshold is the middle."""
    before, after = sigmoid(fp32 / np.float32(temperature)), sigmoid(int8 / np.float32(temperature))
    given = fp32 >= 0
    given[np.arange(len(fp32)), fp32.argmax(axis=1)] = True
    return _Differences((fp32 >= 0) != (int8 >= 0), np.abs(2 * before - 1), np.abs(before - after)[given])


def engine_for(kind: str) -> str:
    """Return the int8 engine of an architecture. Raises EngineError if there is none."""
    if kind in _LOADERS:
        return CT2
    if kind in quantised_graph.KINDS:
        return ORT
    raise EngineError(f"{kind} has no int8 engine yet.")


def convert(encoder: Any, kind: str, folder: Path) -> None:
    """Write the int8 weights of a loaded AutoModel of `kind` (config.model_type) to `folder`, for its engine.

    CTranslate2 quantises in place: the model computes nonsense from then on. Raises EngineError for whatever a converter does not know.
    """
    if engine_for(kind) == ORT:
        quantised_graph.convert_to_graph(encoder, folder)
        return
    from ctranslate2.converters import transformers as converters

    # The converter reads what transformers 5 dropped from its configs; other kinds than this one were dropped as well.
    encoder.config.position_embedding_type = "absolute"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        loader = getattr(converters, _LOADERS[kind])()
        spec = loader.get_model_spec(_as_expected(kind, encoder))
        _drop_pooler(spec)
        loader.set_config(spec.config, encoder, SimpleNamespace(unk_token="0"))  # noqa: S106  # ids are handed over
        spec.register_vocabulary([str(number) for number in range(encoder.config.vocab_size)])
        spec.validate()
        spec.optimize(quantization=QUANTIZATION)
        spec.save(str(folder))
    except Exception as error:  # the converter raises and asserts anything
        raise EngineError(f"CTranslate2 cannot convert it ({safe_reason(error)}).") from error
    finally:
        del encoder.config.position_embedding_type


def open_int8(folder: Path, kind: str, pooler: Pooler, width: int, pad_id: int) -> Engine:
    """Load what `convert` wrote, to compute one batch at a time with all threads. Raises EngineError."""
    if engine_for(kind) == ORT:
        return OrtEngine(folder, pooler, width, pad_id, available_cores())
    return Ct2Engine(folder, pooler, width, 1, available_cores())


def sample_of(encoded: Sequence[list[int]]) -> list[list[int]]:
    """Return as many of the first texts as MAX_TOKENS allows, at least one if there is one."""
    tokens = np.cumsum([len(ids) for ids in encoded])
    return list(encoded[: max(1, int((tokens <= MAX_TOKENS).sum()))])


def head_of(kind: str, model: Any) -> tuple[Layer, ...]:
    """Return the head of an AutoModelForSequenceClassification of these kinds, all of which read the first token."""
    if kind == "bert":
        layers = [_layer(model.bert.pooler.dense, "tanh"), _layer(model.classifier)]
    elif kind == "distilbert":
        layers = [_layer(model.pre_classifier, "relu"), _layer(model.classifier)]
    else:
        activation = "gelu" if kind == "electra" else "tanh"
        layers = [_layer(model.classifier.dense, activation), _layer(model.classifier.out_proj)]
    return tuple(layers)


def _layer(linear: Any, activation: str = "none") -> Layer:
    return Layer(linear.weight.detach().numpy(), linear.bias.detach().numpy(), activation)


def _as_expected(kind: str, encoder: Any) -> Any:
    """Return what the converter of `kind` takes. Raises EngineError for a layer that it does not know."""
    if kind == "xlm-roberta":  # alone wants the model around the encoder
        return SimpleNamespace(config=encoder.config, roberta=encoder)
    if kind == "electra":  # BERT without a pooler, and in small sizes with a projection of its embeddings
        if hasattr(encoder, "embeddings_project"):
            raise EngineError("its embeddings are projected.")
        dense = encoder.encoder.layer[0].attention.output.dense  # dropped by `_drop_pooler`
        pooler = SimpleNamespace(dense=dense)
        return SimpleNamespace(
            config=encoder.config, embeddings=encoder.embeddings, encoder=encoder.encoder, pooler=pooler
        )
    return encoder


def _drop_pooler(spec: Any) -> None:
    # numpy computes it in fp32, and mean pooling does not need it.
    for name in ("pooler_dense", "pooler_activation"):
        if hasattr(spec, name):
            delattr(spec, name)
