"""A version as a folder that other programs load: what is exported, and what they all have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # `fitloop --help` does not import pydantic
    from services.core.domain import EncoderManifest, Manifest

DESCRIPTION: Final = "fitloop.json"


class Format(StrEnum):
    """How an exported version is laid out."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    ONNX = "onnx"


@dataclass(frozen=True, slots=True)
class Source:
    """A version with its files on this machine, each verified."""

    manifest: Manifest
    folder: Path
    """Of the version: head.safetensors, or a whole model."""
    encoder: EncoderManifest | None = None
    """None: the version is a whole model."""
    encoder_folder: Path | None = None

    @property
    def model_folder(self) -> Path:
        """The folder with config.json, tokenizer.json and the weights."""
        return self.encoder_folder or self.folder


@dataclass(frozen=True, slots=True)
class Description:
    """fitloop.json of an export: what it was made of, for people and programs."""

    project: str
    version: str
    format: str
    labels: tuple[str, ...]
    max_length: int
    """Tokens read of each text; truncate there, as Fitloop does."""
    prompt: str
    """To be put before each text; "" for most models."""
    temperature: float
    """Divide the logits by it; 1.0: it is folded into the weights."""
    base_model: str
    encoder: str
    """Digest; "" for a whole model."""
    multi_label: bool = False
    """Whether a text may have several labels, or none: those whose logits are 0 or more."""
    thresholds: tuple[float, ...] = ()
    """Then the calibrated probability of each label from which on it is chosen; a logit is that of the probability less that of
    the threshold."""
    files: tuple[str, ...] = ()


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; {} if there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, document: object) -> None:
    """Write a JSON document, and its folder if that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def name_labels(
    config: dict[str, Any], labels: Sequence[str], architecture: str = "", *, multi_label: bool = False
) -> dict[str, Any]:
    """Return a config.json that names the labels."""
    named = {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "num_labels": len(labels),
    }
    kind = {"problem_type": f"{'multi' if multi_label else 'single'}_label_classification"}
    classifier = {"architectures": [architecture], **kind} if architecture else {}
    return {**config, **named, **(kind if multi_label else {}), **classifier}


def write_description(folder: Path, description: Description) -> None:
    """Write fitloop.json, which lists the other files, and README.md if the base model brought none."""
    readme = folder / "README.md"
    if readme.is_file():
        readme.rename(folder / "README-of-the-base-model.md")
    readme.write_text(_readme(description), encoding="utf-8")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_json(folder / DESCRIPTION, {**asdict(description), "files": files})


def _readme(one: Description) -> str:
    calibration = (
        _SEVERAL
        if one.multi_label
        else (
            "The softmax of its logits are calibrated probabilities: the temperature is folded into the last layer."
            if one.temperature == 1.0
            else f"Divide its logits by {one.temperature:.6g} before the softmax: then the probabilities are calibrated."
        )
    )
    prompt = f"\nPut {one.prompt!r} before each text." if one.prompt else ""
    return (
        f"# {one.version}\n\n"
        f"A text classifier that Fitloop exported (project {one.project}, base model {one.base_model}).\n\n"
        f"{_how(one)}\n\n"
        f"{calibration}\nTexts are truncated at {one.max_length} tokens.{prompt}\n\n"
        f"Labels, in the order of the outputs: {', '.join(one.labels)}.\n"
    )


def _how(one: Description) -> str:
    found = _HOW[Format(one.format)]
    return found.replace("model=folder", "model=folder, top_k=None") if one.multi_label else found


_SEVERAL: Final = (
    "A text may have several labels, or none: those whose logits are 0 or more, so that the sigmoid is .5 or more. Calibrated "
    "probabilities are the sigmoid of the logit plus log(t / (1 - t)), where t is the label's threshold in fitloop.json."
)
_HOW: Final = {
    Format.TRANSFORMERS: (
        "Load it with `transformers`: `pipeline('text-classification', model=folder)`, or "
        "`AutoModelForSequenceClassification.from_pretrained(folder)`."
    ),
    Format.SENTENCE_TRANSFORMERS: (
        "Load it with `sentence-transformers`: `SentenceTransformer(folder).encode(texts)` returns logits, one column a label "
        "(`id2label` in config.json)."
    ),
    Format.ONNX: (
        "Run `model.onnx` with ONNX Runtime: inputs `input_ids` and `attention_mask` (int64, texts × tokens), output `logits`. "
        "`tokenizer.json` is read by `tokenizers`."
    ),
}
