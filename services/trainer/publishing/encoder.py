"""A base model, or a trained one, to an encoder in the bucket: files of record, int8, its comparison with fp32, manifest last.

The folder is sentence-transformers' own layout, so that other programs can load it; `ct2/` and `projection/` are ours.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from services.core import documents
from services.core.domain import EncoderCheck, EncoderManifest
from services.core.encoders import Encoders
from services.core.errors import EngineError, StoreError
from services.core.store import ObjectStore
from services.engine.compute import Engine, Features, compute
from services.engine.encoder import INT8_FOLDERS, PROJECTION
from services.engine.head import Head, Layer
from services.engine.tokenise import check_vocabulary, encode, open_tokenizer, pad_id_of, read_config
from services.engine.torch import TorchEngine
from services.trainer.data.base_model import BaseModel
from services.trainer.data.features import Floats
from services.trainer.data.modules import POOLING_FLAGS, digest_of
from services.trainer.methods.linear_probe import fit_head
from services.trainer.publishing.int8 import (
    MAX_TEXTS,
    TORCH,
    compare,
    convert,
    engine_for,
    open_int8,
    sample_of,
)
from services.trainer.publishing.made import check_logits
from services.trainer.publishing.sample import sample_texts

CHECK: Final = "check.json"
_COPIED: Final = ("tokenizer_config.json", "special_tokens_map.json", "README.md", "LICENSE*", "NOTICE*")
_ACTIVATIONS: Final = {
    "none": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Probe:
    """The head by which int8 is compared with fp32."""

    texts: Sequence[str]
    head: Head
    logits: Floats
    """(texts, labels) of the trained model: the encoder that was written must give the same."""


@dataclass(frozen=True, slots=True)
class MadeEncoder:
    """An encoder, and how fast fp32 was."""

    manifest: EncoderManifest
    seconds_per_token: float


def publish_encoder(store: ObjectStore, base: BaseModel, probe: Probe | None = None) -> MadeEncoder:
    """Turn a loaded model into an encoder of the bucket; one that is there already stays. Raises EngineError, StoreError.

    `probe` is the head that was trained with a fine-tuned encoder; without one a probe is fitted to texts of our own.
    """
    with tempfile.TemporaryDirectory(prefix="fitloop-encoder-", ignore_cleanup_errors=True) as path:
        folder = Path(path)
        try:
            write_encoder(folder, base)
            made = attach_engine(folder, base, probe)
        except OSError as error:
            raise StoreError(
                f"The encoder cannot be written to {folder}: {error.strerror or error}."
            ) from error
        manifest = Encoders(store).publish(folder, made.manifest)
    log.info(
        "encoder_published",
        encoder=manifest.digest[:12],
        engine=manifest.engine,
        reason=manifest.engine_reason,
    )
    return replace(made, manifest=manifest)


def write_encoder(folder: Path, base: BaseModel) -> None:
    """Write the files of record: Transformer, Pooling, Dense, Normalize, the prompt, and the base model's licence and card."""
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = base.encoder
    model.save_pretrained(folder)
    base.tokenizer.save(str(folder / "tokenizer.json"))
    for path in (path for pattern in _COPIED for path in base.source.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    pooling, layers = base.modules.pooling, base.modules.layers
    _write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": base.max_length, "do_lower_case": False}
    )
    kinds = ["", "1_Pooling", *(f"{n}_Dense" for n, _ in enumerate(layers, 2))]
    kinds += [f"{len(kinds)}_Normalize"] if pooling.normalize else []
    _write_json(folder / "modules.json", [_module(n, path) for n, path in enumerate(kinds)])
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": base.width, "pooling_mode": pooling.mode, "include_prompt": True}
        | {flag: mode == pooling.mode for flag, mode in POOLING_FLAGS.items()},
    )
    if pooling.prompt:
        prompts = {"prompts": {"default": pooling.prompt}, "default_prompt_name": "default"}
        _write_json(folder / "config_sentence_transformers.json", prompts)
    for number, layer in enumerate(layers, 2):
        _write_dense(folder / f"{number}_Dense", layer)
    if layers:
        (folder / PROJECTION).mkdir()
        Head(layers).write(folder / PROJECTION)


def attach_engine(folder: Path, base: BaseModel, probe: Probe | None = None) -> MadeEncoder:
    """Read the files of record back, add the int8 engine if it is exact enough, write check.json. Raises EngineError."""
    config, tokenizer = read_config(folder), open_tokenizer(folder, base.max_length)
    pad_id = pad_id_of(config, tokenizer)
    fp32 = TorchEngine(folder, base.pooler, base.feature_width, pad_id, padded=base.padded)
    reference = _compute_reference(fp32, tokenizer, base, probe)
    kind, engine = base.errors.architecture, TORCH
    try:
        check_vocabulary(config, tokenizer)
        engine = engine_for(kind)
        path = folder / INT8_FOLDERS[engine]
        convert(fp32.model, kind, path)
        int8 = compute(open_int8(path, kind, base.pooler, base.feature_width, pad_id), reference.ids)
        check = _compare(reference, int8)
    except EngineError as error:
        check = EncoderCheck(0, False, f"int8 was refused: {error}")
    if not check.accepted:
        for name in INT8_FOLDERS.values():
            shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CHECK).write_bytes(documents.dump(check))
    manifest = EncoderManifest(
        digest=base.digest or digest_of(folder, base.tokenizer.to_str(), base.modules, base.max_length),
        base_model=base.errors.name,
        architecture=kind,
        width=base.feature_width,
        max_length=base.max_length,
        pooling=base.modules.pooling,
        engine=engine if check.accepted else TORCH,
        engine_reason=check.figures,
        padded=base.padded,
    )
    return MadeEncoder(manifest, reference.seconds_per_token)


@dataclass(frozen=True, slots=True)
class _Reference:
    """What fp32 answers."""

    ids: list[list[int]]
    features: Features
    head: Head
    seconds_per_token: float


def _compute_reference(
    engine: Engine, tokenizer: Tokenizer, base: BaseModel, probe: Probe | None
) -> _Reference:
    texts, topics = (list(probe.texts), []) if probe else sample_texts()
    prompt = base.modules.pooling.prompt
    ids = sample_of(encode(tokenizer, [f"{prompt}{text}" for text in texts[:MAX_TEXTS]]))
    started = time.perf_counter()
    features = compute(engine, ids)
    seconds = (time.perf_counter() - started) / max(1, sum(map(len, ids)))
    if not np.isfinite(features).all():
        raise EngineError(f"The encoder of {base.errors.name!r} answers numbers that are not finite.")
    if probe is None:
        return _Reference(ids, features, _fitted(features, topics[: len(ids)]), seconds)
    check_logits(probe.head.logits(features), probe.logits[: len(ids)])
    return _Reference(ids, features, probe.head, seconds)


def _fitted(features: Features, topics: Sequence[int]) -> Head:
    targets = np.array(topics, np.int64)
    head = fit_head(features, targets, max(topics, default=0) + 1)
    return Head((Layer(head.weight, head.bias),))


def _compare(reference: _Reference, int8: Features) -> EncoderCheck:
    head, fp32 = reference.head, reference.features
    refusal, figures = compare(
        head.logits(fp32), head.logits(int8), head.temperature, several=head.thresholds is not None
    )
    norms = np.linalg.norm(fp32, axis=1) * np.linalg.norm(int8, axis=1)
    cosines = (fp32 * int8).sum(axis=1) / np.maximum(norms, 1e-12)
    return EncoderCheck(
        texts=len(fp32),
        accepted=not refusal,
        figures=f"int8 was refused: {refusal}" if refusal else figures,
        mean_cosine=round(float(cosines.mean()), 6) if len(cosines) else 0.0,
        lowest_cosine=round(float(cosines.min(initial=1.0)), 6),
    )


def _module(number: int, path: str) -> dict[str, object]:
    kind = path.partition("_")[2] or "Transformer"
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _write_dense(folder: Path, layer: Layer) -> None:
    outputs, inputs = layer.weight.shape
    activation = _ACTIVATIONS[layer.activation]
    document = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": True,
        "activation_function": activation,
    }
    _write_json(folder / "config.json", document)
    tensors = {"linear.weight": layer.weight, "linear.bias": layer.bias}
    save_file(
        {name: np.ascontiguousarray(one) for name, one in tensors.items()}, folder / "model.safetensors"
    )


def _write_json(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
