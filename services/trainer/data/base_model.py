"""The base model: the pre-trained encoder that a run starts from, with its tokenizer.

Its layout is that of plain transformers or of sentence-transformers. Only safetensors and JSON are read, and no code of the
model runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
import torch
import transformers
from tokenizers import Tokenizer, normalizers

from services.core.base_models import has_tokenizer, transformer_of, weights_in
from services.core.domain import Method
from services.core.errors import EngineError
from services.core.telemetry.logs import safe_traceback
from services.engine.pooling import Pooler, pooler_of
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
from services.trainer.data.base_files import find_base, unusable
from services.trainer.data.modules import Modules, digest_of, read_modules

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
    """Of the encoder that comes of it; "" if it is a trained one, whose files are not written yet."""
    pad_id: int
    max_length: int
    """Tokens: the setting, or fewer if the model has fewer positions."""
    errors: ModelErrors
    width: int
    """Dimensions of a token's vector."""
    modules: Modules = field(default_factory=Modules)
    padded: bool = True
    """False if padding would change its answers: then a batch has texts of one length."""

    @property
    def pooler(self) -> Pooler:
        """Return what makes a text's features of its token vectors."""
        return pooler_of(self.modules.pooling, self.modules.layers)

    @property
    def feature_width(self) -> int:
        """Return the dimensions of a text's features."""
        return len(self.modules.layers[-1].bias) if self.modules.layers else self.width


def load_base(name: str, max_length: int, method: Method = Method.AUTO) -> BaseModel:
    """Load the base model and try it. Raises BadConfig, which says what to set, if it cannot be read or computed."""
    folder = find_base(name)
    source = transformer_of(folder)
    _check_weights(name, source)
    document = _document(name, source)
    try:
        modules = read_modules(folder, source)
    except ValueError as error:
        raise unusable(name, str(error)) from error
    subject = ModelErrors(name, str(document["model_type"]))
    slow = _tokenizer(name, source, lower_case=modules.lower_case)
    pad_id = pad_id_of(document, slow)
    try:
        encoder, gaps = load_and_list_missing(transformers.AutoModel, source, pad_id)
    except EngineError as error:
        raise subject.failed("be loaded", error.__cause__ or error) from error
    names = set(encoder.state_dict())
    if len(gaps) > len(names) / 2:
        raise unusable(
            name, f"its weights are not those of the architecture in its config.json, {subject.architecture}"
        )
    config = encoder.config.to_dict()
    length = position_limit(config, max_length)
    tokenizer = configure_tokenizer(slow, length)
    digest = digest_of(source, tokenizer.to_str(), modules, length)
    base = BaseModel(encoder.config, encoder, tokenizer, source, digest, pad_id, length, subject, 0, modules)
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


def _check_weights(name: str, source: Path) -> None:
    if weights_in(source):
        return
    others = sorted({path.suffix for one in _OTHER_WEIGHTS for path in source.glob(one)})
    if others:
        raise unusable(
            name,
            f"its weights are in {', '.join(others)} files, and only safetensors, which contain no code, are read",
        )
    raise unusable(name, "config.json or model.safetensors is missing")


def _document(name: str, source: Path) -> dict[str, Any]:
    """Read config.json, of an architecture that transformers computes without code or kernels of others."""
    try:
        found = json.loads((source / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise unusable(name, "its config.json cannot be read as JSON") from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if not isinstance(kind, str) or not kind:
        raise unusable(name, "its config.json does not say which architecture it is (model_type)")
    if kind not in transformers.CONFIG_MAPPING:
        own = "auto_map" in found
        raise ModelErrors(name, kind).unsupported(
            "needs code that comes with the model (auto_map in its config.json), and Fitloop runs no code of a model"
            if own
            else f"is not known to transformers {transformers.__version__}"
        )
    if found.get("quantization_config"):
        raise unusable(
            name, "its weights are quantized (quantization_config in its config.json): use the original"
        )
    return dict(found)


def _tokenizer(name: str, source: Path, *, lower_case: bool) -> Tokenizer:
    if not has_tokenizer(source):
        raise unusable(name, "its tokenizer (tokenizer.json or vocab.txt) is missing")
    found = _read_tokenizer(name, source)
    if lower_case:
        before = [found.normalizer] if found.normalizer is not None else []
        found.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return found


def _read_tokenizer(name: str, source: Path) -> Tokenizer:
    try:
        if (source / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(source / "tokenizer.json"))
        # Only the slow format is there: transformers converts it once, and the artefact has tokenizer.json.
        found = transformers.AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # `tokenizers` raises bare Exception, transformers what it likes
        log.warning("tokenizer_not_read", frames=safe_traceback(error))
        raise unusable(name, "its tokenizer cannot be read") from error
    backend = getattr(found, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise unusable(name, "its tokenizer is Python code, and only those with a tokenizer.json are served")
    return backend
