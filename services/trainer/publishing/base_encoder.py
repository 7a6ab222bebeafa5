"""The encoder of a run's base model: found in the bucket, or made once by the run that needs it first.

A missing, truncated or altered encoder is made again from the base model. Of several processes rank 0 does this, and the
others load what it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.core.domain import BaseAlias, Method, Parameters
from services.core.encoders import Encoders
from services.core.errors import BadConfig
from services.core.registry import Registry
from services.trainer.data.base_encoder import BaseEncoder, find_alias, load_encoder, load_or_none
from services.trainer.data.base_files import identity_of
from services.trainer.data.modules import REVISION
from services.trainer.process import Run

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel

_TRAIN_WEIGHTS = (Method.FINETUNE, Method.LP_FT)


def prepare_encoder(run: Run, load_base: Callable[[], BaseModel]) -> BaseEncoder | None:
    """Return the encoder, in rank 0; load the base model if it will be needed, so that both happen while others answer.

    Raises BadConfig if the base model is needed and cannot be used, EngineError, StoreError.
    """
    encoder = open_encoder(run.registry, run.request.parameters, load_base) if run.group.leads else None
    if run.group.size > 1 or run.request.parameters.method in _TRAIN_WEIGHTS:
        load_base()
    return encoder


def share_encoder(run: Run, encoder: BaseEncoder | None) -> BaseEncoder:
    """Return the encoder of rank 0, in all ranks. Raises CorruptVersion, EngineError, StoreError, Preempted."""
    digest = run.group.broadcast(encoder.digest.encode() if encoder else b"", run.stop)
    return encoder or load_encoder(run.registry, Encoders(run.registry.store).manifest(digest.decode()))


def open_encoder(
    registry: Registry, parameters: Parameters, load_base: Callable[[], BaseModel]
) -> BaseEncoder:
    """Find and load the encoder of the parameters' base model, or make it. Raises BadConfig, EngineError, StoreError."""
    name, length = parameters.base_model, parameters.max_length
    alias = find_alias(registry.store, name, length)
    found = load_or_none(registry, alias.digest, alias.seconds_per_token) if alias else None
    if found is not None:
        return found
    source = identity_of(name)
    try:
        base = load_base()
    except BadConfig as error:
        if alias is None:
            raise
        raise BadConfig(
            f"The encoder {alias.digest[:12]} in the bucket cannot be used any more. {error}"
        ) from error
    encoder = _make(registry, base)
    made = BaseAlias(
        name, length, base.digest, source or identity_of(name), REVISION, encoder.seconds_per_token
    )
    Encoders(registry.store).write_alias(made)
    return encoder


def _make(registry: Registry, base: BaseModel) -> BaseEncoder:
    """Publish the encoder unless it is there and intact."""
    from services.trainer.publishing.encoder import publish_encoder

    if encoder := load_or_none(registry, base.digest):
        return encoder
    if Encoders(registry.store).exists(base.digest):  # but is damaged
        Encoders(registry.store).delete(base.digest)
    made = publish_encoder(registry.store, base)
    return load_encoder(registry, made.manifest, made.seconds_per_token)
