"""The encoder of the base model in memory: what computes the features that a run trains on and its versions serve.

It is found by an alias in the bucket, so that a run that finds it reads, hashes and imports nothing of the base model.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import structlog

from services.core.domain import BaseAlias, EncoderManifest
from services.core.encoders import Encoders
from services.core.errors import CorruptVersion, EngineError, NotFound
from services.core.registry import Registry
from services.core.settings.training import available_cores
from services.core.store import ObjectStore
from services.engine.encoder import INT8_FOLDERS, TextEncoder
from services.engine.loading import Loader
from services.engine.tokenise import position_limit, read_config
from services.trainer.data.base_files import identity_of
from services.trainer.data.modules import REVISION

_ANY: Final = sys.maxsize
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BaseEncoder:
    """A loaded encoder with what is known of it."""

    manifest: EncoderManifest
    encoder: TextEncoder
    most: int
    """Tokens of a text that the model can read; 0: any number."""
    seconds_per_token: float = 0.0
    """Of fp32, on some machine; 0.0 if it is not known."""

    @property
    def digest(self) -> str:
        """Return the encoder's digest."""
        return self.manifest.digest


def find_alias(store: ObjectStore, base_model: str, max_length: int) -> BaseAlias | None:
    """Return which encoder was made of the base model as it is now; None if none was. Raises StoreError."""
    alias = Encoders(store).alias(base_model, max_length)
    if alias is None or alias.revision != REVISION:
        return None
    now = identity_of(base_model)
    if now and now != alias.source:
        log.info("base_model_changed", base_model=base_model)
        return None
    return alias


def load_or_none(registry: Registry, digest: str, seconds_per_token: float = 0.0) -> BaseEncoder | None:
    """Load an encoder of the bucket; None if it is missing or damaged, which is logged. Raises StoreError for all else."""
    try:
        return load_encoder(registry, Encoders(registry.store).claim(digest), seconds_per_token)
    except NotFound:
        log.info("encoder_missing", encoder=digest[:12])
    except (CorruptVersion, EngineError) as error:
        log.warning("encoder_damaged", encoder=digest[:12], reason=str(error))
    return None


def load_encoder(
    registry: Registry, manifest: EncoderManifest, seconds_per_token: float = 0.0
) -> BaseEncoder:
    """Load an encoder of the bucket, to compute a batch on each core. Raises CorruptVersion, EngineError, StoreError."""
    cores, is_int8 = available_cores(), manifest.engine in INT8_FOLDERS
    loader = Loader(registry, cores, 1 if is_int8 else cores, "cpu" if is_int8 else _torch_device())
    encoder = loader.encoder(manifest)
    config = read_config(Encoders(registry.store).folder(manifest, ["config.json"]))
    limit = position_limit(config, _ANY)
    return BaseEncoder(manifest, encoder, 0 if limit == _ANY else limit, seconds_per_token)


def _torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
