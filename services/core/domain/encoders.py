"""Encoders: how a text becomes its features. An encoder is immutable and shared by every version whose head was trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.core.documents import FORMAT
from services.core.domain.files import FileEntry


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the hidden states of a text's tokens become one vector, as the base model's own files say."""

    mode: str = "mean"
    """One of `services.engine.pooling.MODES`, which are sentence-transformers'."""
    normalize: bool = True
    """Whether features have length 1 (L2)."""
    prompt: str = ""
    """Put before each text, such as "query: "; "" for most models."""


@dataclass(frozen=True, slots=True)
class EncoderManifest:
    """encoders/<digest>/manifest.json: written last; without it the encoder does not exist."""

    digest: str
    """sha256 over weights, config, tokenizer, pooling and maximum length, lower-case hex."""
    base_model: str
    """The base model's name as the run was given it; for a fine-tuned encoder, that of its base."""
    architecture: str
    """`model_type` of config.json."""
    width: int
    """Dimensions of a feature vector."""
    max_length: int
    """Tokens read of each text; the rest is truncated."""
    pooling: Pooling
    engine: str
    """`ct2-int8` (in the folder `ct2/`), `ort-int8` (in `ort/`) or `torch-fp32`: what computes it on a CPU."""
    engine_reason: str
    """Why, with the figures of int8 against fp32."""
    padded: bool = True
    """False: padding would change its features, so only texts of one length are computed together."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    created_at: float = 0.0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class RetiredEncoder:
    """encoders/<digest>/retired.json: nothing needs it, and the leader deletes it later unless a run deletes this first."""

    at: float
    """When it was retired, after its aliases were deleted."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class EncoderCheck:
    """encoders/<digest>/check.json: int8 against fp32 on the machine that made the encoder."""

    texts: int
    accepted: bool
    figures: str
    """In words: how many answers of a probe differ, and by how much."""
    mean_cosine: float = 0.0
    """Of int8's and fp32's features of the same text; 0.0 if there is no int8."""
    lowest_cosine: float = 0.0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class BaseAlias:
    """encoders/base-<16 hex>.json: the encoder of a base model, so that a run finds it without reading the base model."""

    base_model: str
    max_length: int
    """As in the run's parameters."""
    digest: str
    source: dict[str, str] = field(default_factory=dict)
    """What identified the base model's files when the encoder was made: name to size and time, or the hub's commit."""
    revision: int = 1
    """`services.trainer.data.modules.REVISION` of the release that made it."""
    seconds_per_token: float = 0.0
    """Of fp32, on the machine that made the encoder: whether fine-tuning may fit its budget is asked of it first."""
    format: int = FORMAT
