"""The int8 engine of an exported model: converted, compared with fp32, kept or removed.

It is accepted if, on texts without labels, no answer changes that fp32 gives by a margin above 0.1, and probabilities differ
by 0.02 at most on average. Else fp32 is served, and the manifest says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine.compute import compute, softmax
from services.engine.ct2 import Ct2Engine
from services.engine.head import Layer, PooledHead
from services.engine.tokenise import check_vocabulary, encode, open_tokenizer, pad_id_of, read_config
from services.engine.torch import TorchEngine

CT2, TORCH = "ct2-int8", "torch-fp32"
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
}


def attach_int8(
    folder: Path,
    layout: str,
    max_length: int,
    temperature: float,
    texts: Sequence[str],
    *,
    logits: NDArray[np.float32] | None = None,
) -> tuple[str, str]:
    """Build `folder`/ct2 if the architecture allows it and it is equal to fp32; return (engine, reason).

    `logits` (len(texts), labels) are fp32's of `texts`, not divided by `temperature`, if they are known already.
    Raises EngineError if the exported fp32 model itself cannot be loaded.
    """
    config = read_config(folder)
    kind = str(config.get("model_type"))
    if kind not in _LOADERS:
        return TORCH, f"{kind} has no int8 engine yet: served in fp32."
    tokenizer = open_tokenizer(folder, max_length)
    encoded = _sample(encode(tokenizer, texts[:MAX_TEXTS]))
    labels = len(config["id2label"])
    reference = TorchEngine(folder, layout, labels, pad_id_of(config, tokenizer))
    if logits is None:
        logits = compute(reference, encoded, labels)
    try:
        check_vocabulary(config, tokenizer)
        convert(reference, kind, folder / "ct2")
        engine = Ct2Engine(folder / "ct2", labels, 1, torch.get_num_threads())
        refusal, measured = compare(logits[: len(encoded)], compute(engine, encoded, labels), temperature)
    except EngineError as error:
        refusal, measured = str(error), ""
    if refusal:
        shutil.rmtree(folder / "ct2", ignore_errors=True)
        return TORCH, f"int8 was refused: {refusal}"
    return CT2, measured


def compare(fp32: NDArray[np.float32], int8: NDArray[np.float32], temperature: float) -> tuple[str, str]:
    """Compare logits (texts, labels); return why int8 is refused (empty if it is not), and the figures."""
    if not len(fp32):
        return "there was no text to compare it with fp32.", ""
    if not np.isfinite(int8).all():
        return "it answers numbers that are not finite.", ""
    before, after = softmax(fp32, temperature), softmax(int8, temperature)
    ordered = np.sort(before, axis=1)
    margin = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0)
    flips = before.argmax(axis=1) != after.argmax(axis=1)
    sure = int((flips & (margin > CONFIDENT_MARGIN)).sum())
    # Of fp32's answer alone: a mean over all labels would shrink with their number.
    rows, answers = np.arange(len(before)), before.argmax(axis=1)
    difference = float(np.abs(before[rows, answers] - after[rows, answers]).mean())
    figures = (
        f"on {len(fp32)} texts {int(flips.sum())} answers differ, {sure} of them where fp32 is sure, "
        f"and their probability by {difference:.4f} on average."
    )
    if sure or difference > MAX_MEAN_DIFFERENCE:
        return figures, figures
    return "", f"int8 was compared with fp32: {figures}"


def convert(reference: TorchEngine, kind: str, folder: Path) -> None:
    """Write CTranslate2's int8 encoder and the head of a loaded model of `kind` (config.model_type) to `folder`.

    Raises EngineError for whatever the converter does not know.
    """
    from ctranslate2.converters import transformers as converters

    model = reference.model
    encoder = model if reference.head else model.base_model
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
    (reference.head or head_of(kind, model)).write(folder)


def head_of(kind: str, model: Any) -> PooledHead:
    """Return the head of an AutoModelForSequenceClassification, all of which read the first token."""
    if kind == "bert":
        layers = [_layer(model.bert.pooler.dense, "tanh"), _layer(model.classifier)]
    elif kind == "distilbert":
        layers = [_layer(model.pre_classifier, "relu"), _layer(model.classifier)]
    else:
        layers = [_layer(model.classifier.dense, "tanh"), _layer(model.classifier.out_proj)]
    return PooledHead("cls", normalize=False, layers=tuple(layers))


def _layer(linear: Any, activation: str = "none") -> Layer:
    return Layer(linear.weight.detach().numpy(), linear.bias.detach().numpy(), activation)


def _as_expected(kind: str, encoder: Any) -> Any:
    # For XLM-R alone the converter wants the model around the encoder.
    return SimpleNamespace(config=encoder.config, roberta=encoder) if kind == "xlm-roberta" else encoder


def _drop_pooler(spec: Any) -> None:
    # numpy computes it in fp32, and mean pooling does not need it.
    for name in ("pooler_dense", "pooler_activation"):
        if hasattr(spec, name):
            delattr(spec, name)


def _sample(encoded: Sequence[list[int]]) -> list[list[int]]:
    """Return as many of the first texts as MAX_TOKENS allows, at least one if there is one."""
    tokens = np.cumsum([len(ids) for ids in encoded])
    return list(encoded[: max(1, int((tokens <= MAX_TOKENS).sum()))])
