"""The base model: the pre-trained encoder that a run starts from, with its tokenizer.

A name is a folder (plain transformers or sentence-transformers' layout), a hub id, or s3://bucket/prefix/ in the object
storage of the settings; the hub is asked only if its files are not in the local cache. Only safetensors and JSON are read,
and no code of the model runs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
import torch
import transformers
from tokenizers import Tokenizer

from services.core.base_models import FILES, has_tokenizer, is_file_of_a_model, transformer_of, weights_in
from services.core.domain import Method
from services.core.errors import BadConfig, EngineError, StoreError
from services.core.redaction import safe_reason
from services.core.store import open_store
from services.core.telemetry.logs import safe_traceback
from services.engine.tokenise import configure_tokenizer, encode, pad_id_of, position_limit
from services.engine.torch import load_and_list_missing, load_pretrained
from services.trainer.data.base_check import (
    LABELS,
    LONG,
    MAX_TOKENS,
    SHORT,
    ModelErrors,
    check_classifier,
    check_encoder,
    no_classifier,
)

_FILES = list(FILES)
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`encoder` is an AutoModel in fp32, for inference; `tokenizer` cuts at `max_length` and does not pad."""

    config: Any
    encoder: torch.nn.Module
    tokenizer: Tokenizer
    source: Path
    """The folder with config.json and the weights."""
    digest: str
    """sha256 of the weights' files, sorted by name: lower-case hex."""
    pad_id: int
    max_length: int
    """Tokens: the setting, or fewer if the model has fewer positions."""
    errors: ModelErrors
    width: int
    """Dimensions of a token's vector."""
    padded: bool = True
    """False if padding would change its answers: then a batch has texts of one length."""


def load_base(name: str, max_length: int, method: Method = Method.AUTO) -> BaseModel:
    """Load the base model and try it. Raises BadConfig, which says what to set, if it cannot be read or computed."""
    source = transformer_of(_find(name))
    weights = _weights(name, source)
    document = _document(name, source)
    subject = ModelErrors(name, str(document["model_type"]))
    slow = _tokenizer(name, source)
    pad_id = pad_id_of(document, slow)
    try:
        encoder, gaps = load_and_list_missing(transformers.AutoModel, source, pad_id)
    except EngineError as error:
        raise subject.failed("be loaded", error.__cause__ or error) from error
    names = set(encoder.state_dict())
    if len(gaps) > len(names) / 2:
        raise _unusable(
            name, f"its weights are not those of the architecture in its config.json, {subject.architecture}"
        )
    config = encoder.config.to_dict()
    length = position_limit(config, max_length)
    tokenizer = configure_tokenizer(slow, length)
    base = BaseModel(encoder.config, encoder, tokenizer, source, _digest(weights), pad_id, length, subject, 0)
    return check_base_model(base, method)


def check_base_model(base: BaseModel, method: Method) -> BaseModel:
    """Try the model on two texts and return it with what that found. Raises BadConfig if the method cannot use it."""
    short, long, full = encode(base.tokenizer, [SHORT, LONG, f"{LONG} " * base.max_length])
    rows = [short, long]
    found = check_encoder(base.errors, base.encoder, rows, base.pad_id, trains=method is Method.LP_FT)
    with base.errors.translate(
        f"read a text of {len(full)} tokens (FITLOOP_MAX_LENGTH is {base.max_length})"
    ):
        if len(long) < len(full) <= MAX_TOKENS:
            check_encoder(base.errors, base.encoder, [short, full], base.pad_id, trains=False)
    padded = found.padded
    if method is Method.FINETUNE:
        padded &= check_classifier(base.errors, load_classifier(base, LABELS), rows, base.pad_id)
    return replace(base, width=found.width, padded=padded)


def load_classifier(base: BaseModel, labels: int) -> Any:
    """Load AutoModelForSequenceClassification with a new head for this many labels. Raises BadConfig."""
    auto = transformers.AutoModelForSequenceClassification
    if type(base.config) not in auto._model_mapping:  # noqa: SLF001  # transformers has no other way to ask
        raise no_classifier(base.errors)
    try:
        return load_pretrained(auto, base.source, base.pad_id, num_labels=labels)
    except EngineError as error:
        raise base.errors.failed("be loaded as a classifier", error.__cause__ or error) from error


def _weights(name: str, source: Path) -> list[Path]:
    found = weights_in(source)
    if found:
        return found
    others = sorted({path.suffix for one in _OTHER_WEIGHTS for path in source.glob(one)})
    if others:
        raise _unusable(
            name,
            f"its weights are in {', '.join(others)} files, and only safetensors, which contain no code, are read",
        )
    raise _unusable(name, "config.json or model.safetensors is missing")


def _document(name: str, source: Path) -> dict[str, Any]:
    """Read config.json, of an architecture that transformers computes without code or kernels of others."""
    try:
        found = json.loads((source / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(name, "its config.json cannot be read as JSON") from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if not isinstance(kind, str) or not kind:
        raise _unusable(name, "its config.json does not say which architecture it is (model_type)")
    if kind not in transformers.CONFIG_MAPPING:
        own = "auto_map" in found
        raise ModelErrors(name, kind).unsupported(
            "needs code that comes with the model (auto_map in its config.json), and Fitloop runs no code of a model"
            if own
            else f"is not known to transformers {transformers.__version__}"
        )
    if found.get("quantization_config"):
        raise _unusable(
            name, "its weights are quantized (quantization_config in its config.json): use the original"
        )
    return dict(found)


def _find(name: str) -> Path:
    if name.startswith("s3://"):
        return _fetch(name)
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _download(name)


def _fetch(url: str) -> Path:
    """Return a local folder with the model's files, copied once. Raises StoreUnreachable, which is transient."""
    try:
        store = open_store(url)
        keys = [key for key in store.keys("") if is_file_of_a_model(key)]
        if not keys:
            raise _unusable(url, "there is no model below it (`fitloop models push DIR` puts one there)")
        paths = [store.local(key) for key in keys]
        folder = paths[0].parents[keys[0].count("/")]
        for path in {path for path in folder.rglob("*") if path.is_file()} - set(paths):
            store.forget(path.relative_to(folder).as_posix())  # of an earlier model
    except StoreError as error:
        if error.transient:
            raise
        raise _unusable(url, str(error).rstrip(".")) from error
    return folder


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        cached = Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
        if weights_in(transformer_of(cached)):
            return cached
    except HFValidationError as error:
        raise _unusable(name, "there is no such folder, and it is not a valid hub id") from error
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise _unusable(
            name,
            f"there is no such folder, and it could not be downloaded from the hub ({safe_reason(error)})",
        ) from error


def _tokenizer(name: str, source: Path) -> Tokenizer:
    if not has_tokenizer(source):
        raise _unusable(name, "its tokenizer (tokenizer.json or vocab.txt) is missing")
    try:
        if (source / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(source / "tokenizer.json"))
        # Only the slow format is there: transformers converts it once, and the artefact has tokenizer.json.
        found = transformers.AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # `tokenizers` raises bare Exception, transformers what it likes
        log.warning("tokenizer_not_read", frames=safe_traceback(error))
        raise _unusable(name, "its tokenizer cannot be read") from error
    backend = getattr(found, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise _unusable(name, "its tokenizer is Python code, and only those with a tokenizer.json are served")
    return backend


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _unusable(name: str, why: str) -> BadConfig:
    return BadConfig(
        f"The base model {name!r} cannot be used: {why}. "
        "Set BASELINE_MODEL_NAME to a folder, an s3://bucket/prefix/ or a hub id that this machine can reach, with "
        "model.safetensors."
    )
