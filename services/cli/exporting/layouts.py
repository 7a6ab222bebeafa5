"""The layouts of an exported version: what AutoModelForSequenceClassification loads, sentence-transformers' modules, a whole model.

Weights are copied and renamed, so that neither torch nor transformers is needed. The temperature is folded into the last layer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.cli.exporting import Format, Source, name_labels, read_json, write_json
from services.cli.exporting.tokenizer import complete_tokenizer, copy_tokenizer
from services.cli.exporting.weights import fold_into_files, read_weights, save
from services.core.errors import BadRequest, EngineError
from services.engine.head import FILE, Head, Layer, read_head

_PROJECTION: Final = "projection"  # services.engine.encoder names it too, and imports tokenizers
_NOT_EXPORTED: Final = ("oos.json", "report.json", "predictions.safetensors", FILE)
_ROBERTA: Final = ("roberta.", ("tanh", "none"), ("classifier.dense", "classifier.out_proj"))
_CLASSIFIERS: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "bert": ("bert.", ("tanh", "none"), ("bert.pooler.dense", "classifier")),
    "distilbert": ("distilbert.", ("relu", "none"), ("pre_classifier", "classifier")),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
}
"""By architecture: the prefix of the encoder's weights, and the activations and names of the head's layers."""
_CLASSES: Final = {
    "bert": "BertForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "xlm-roberta": "XLMRobertaForSequenceClassification",
    "camembert": "CamembertForSequenceClassification",
}
_TORCH_NAMES: Final = {
    "none": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
}


def choose_format(source: Source, asked: Format) -> Format:
    """Return the layout to write. Raises BadRequest if the version cannot be laid out as asked."""
    if own := source.manifest.own_model:
        raise BadRequest(
            f"Version {source.manifest.version} cannot be exported: only {own.model} reads its files. They are in the store as they "
            f"are, below projects/{source.manifest.project_key}/versions/{source.manifest.version}/model/."
        )
    if asked is Format.ONNX:
        return asked
    if source.encoder is None:
        is_classifier = source.manifest.artefact.layout == "sequence-classification"
        only = Format.TRANSFORMERS if is_classifier else Format.SENTENCE_TRANSFORMERS
        why = "it is a whole model in that layout"
    else:
        why = classifier_refusal(source)
        only = Format.SENTENCE_TRANSFORMERS if why else Format.TRANSFORMERS
    if asked is Format.AUTO or asked is only:
        return only
    if asked is Format.SENTENCE_TRANSFORMERS and source.encoder is not None:
        return asked
    raise BadRequest(
        f"Version {source.manifest.version} cannot be exported as {asked.value}: {why}. Use --format {only.value}, or onnx."
    )


def classifier_refusal(source: Source) -> str:
    """Return why AutoModelForSequenceClassification could not compute what this head computes; "" if it can."""
    encoder, head = source.encoder, _head(source)
    if encoder is None:
        return "it is a whole model already"
    pooling, known = encoder.pooling, _CLASSIFIERS.get(encoder.architecture)
    if known is None:
        return f"a {encoder.architecture} classifier of transformers has another head"
    if pooling.mode != "cls" or pooling.normalize or pooling.prompt or _projection(source):
        norm = ", of length 1" if pooling.normalize else ""
        return f"its head reads features of its own (pooling {pooling.mode}{norm}), and transformers' reads the first token's"
    if tuple(layer.activation for layer in head.layers) != known[1]:
        return "its head has other layers than transformers'"
    return ""


def write_classifier(folder: Path, source: Source) -> None:
    """Write what AutoModelForSequenceClassification loads. Raises EngineError, OSError."""
    assert source.encoder is not None  # noqa: S101  # for the type checker
    prefix, _, names = _CLASSIFIERS[source.encoder.architecture]
    tensors = {f"{prefix}{name}": array for name, array in read_weights(source.model_folder).items()}
    for name, layer in zip(names, folded(_head(source)), strict=True):
        tensors |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    copy_tokenizer(folder, source)
    save(tensors, folder / "model.safetensors")
    config = read_json(source.model_folder / "config.json")
    manifest, architecture = source.manifest, _CLASSES[source.encoder.architecture]
    named = name_labels(config, manifest.labels, architecture, multi_label=manifest.multi_label)
    write_json(folder / "config.json", named)


def write_modules(folder: Path, source: Source) -> None:
    """Write sentence-transformers' modules; the last Dense answers logits. Raises EngineError, OSError."""
    assert source.encoder is not None  # noqa: S101  # for the type checker
    encoder, pooling = source.encoder, source.encoder.pooling
    copy_tokenizer(folder, source)
    for path in source.model_folder.glob("*.safetensors*"):
        shutil.copyfile(path, folder / path.name)
    config, manifest = read_json(source.model_folder / "config.json"), source.manifest
    named = name_labels(config, manifest.labels, multi_label=manifest.multi_label)
    write_json(folder / "config.json", named)
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": encoder.max_length, "do_lower_case": False}
    )
    if pooling.prompt:
        prompts = {"prompts": {"default": pooling.prompt}, "default_prompt_name": "default"}
        write_json(folder / "config_sentence_transformers.json", prompts)
    kinds: list[tuple[str, Callable[[Path], None]]] = [
        ("Pooling", lambda path: _write_pooling(path, source, config))
    ]
    kinds += [("Dense", _dense_writer(layer)) for layer in _projection(source)]
    kinds += [("Normalize", lambda path: write_json(path / "config.json", {}))] if pooling.normalize else []
    kinds += [("Dense", _dense_writer(layer)) for layer in folded(_head(source))]
    modules = [_module(0, "", "Transformer")]
    for number, (kind, write_module) in enumerate(kinds, 1):
        place = f"{number}_{kind}"
        (folder / place).mkdir()
        write_module(folder / place)
        modules.append(_module(number, place, kind))
    write_json(folder / "modules.json", modules)


def write_whole(folder: Path, source: Source) -> float:
    """Copy a version that is a whole model; return the temperature by which its logits are still to be divided.

    Raises BadRequest if thresholds cannot be folded into it, OSError.
    """
    manifest = source.manifest
    for name in manifest.files:
        if name not in _NOT_EXPORTED and not name.startswith("ct2/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.folder / name, folder / name)
    config = read_json(folder / "config.json")
    named = name_labels(config, manifest.labels, multi_label=manifest.multi_label)
    write_json(folder / "config.json", named)
    complete_tokenizer(folder, config, manifest.artefact.max_length)
    if manifest.multi_label:
        _fold_thresholds(folder, source)
        return 1.0
    temperature = manifest.artefact.temperature
    is_folded = temperature == 1.0 or fold_into_files(
        folder, len(manifest.labels), np.float32(1 / temperature)
    )
    return 1.0 if is_folded else temperature


def _fold_thresholds(folder: Path, source: Source) -> None:
    """Fold calibration and thresholds into the classifier's last layer. Raises BadRequest if that has no bias."""
    (layer,) = _head(source).layers
    if not fold_into_files(folder, len(layer.bias), layer.weight[0, 0], layer.bias):
        raise BadRequest(
            f"Version {source.manifest.version} cannot be exported as transformers: the last layer of its classifier has no bias, "
            "which would have to take the thresholds of its labels. Use --format onnx."
        )


def thresholds_of(source: Source) -> tuple[float, ...]:
    """Return the probability from which on each label is chosen; () where a text has one label. Raises EngineError."""
    found = _head(source).thresholds if source.manifest.multi_label else None
    return () if found is None else tuple(found.astype(float).tolist())


def folded(head: Head) -> tuple[Layer, ...]:
    """Return the layers with the temperature folded into the last one. Raises EngineError."""
    if not head.layers or head.layers[-1].activation != "none":
        raise EngineError("The head ends in no linear layer: its temperature cannot be folded into it.")
    *first, last = head.layers
    divisor = np.float32(head.temperature)
    return (*first, replace(last, weight=last.weight / divisor, bias=last.bias / divisor))


def _head(source: Source) -> Head:
    return read_head(source.folder / FILE)


def _projection(source: Source) -> tuple[Layer, ...]:
    path = source.model_folder / _PROJECTION / FILE
    return read_head(path).layers if path.is_file() else ()


def _write_pooling(folder: Path, source: Source, config: Mapping[str, Any]) -> None:
    mode = source.encoder.pooling.mode if source.encoder else "mean"
    width = int(config.get("hidden_size") or config.get("dim") or config.get("d_model") or 0)
    flags = (
        "cls_token",
        "lasttoken",
        "max_tokens",
        "mean_tokens",
        "mean_sqrt_len_tokens",
        "weightedmean_tokens",
    )
    named = {
        f"pooling_mode_{flag}": flag.removesuffix("_token").removesuffix("_tokens") == mode for flag in flags
    }
    named["pooling_mode_mean_sqrt_len_tokens"] = mode == "mean_sqrt_len_tokens"
    write_json(folder / "config.json", {"word_embedding_dimension": width, "include_prompt": True, **named})


def _dense_writer(layer: Layer) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        outputs, inputs = layer.weight.shape
        write_json(
            folder / "config.json",
            {
                "in_features": inputs,
                "out_features": outputs,
                "bias": True,
                "activation_function": _TORCH_NAMES[layer.activation],
            },
        )
        save({"linear.weight": layer.weight, "linear.bias": layer.bias}, folder / "model.safetensors")

    return write


def _module(number: int, path: str, kind: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
