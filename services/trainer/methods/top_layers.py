"""The last layers of an encoder, trained alone on hidden states of the layer below them, which are computed once.

The encoder's own forward computes masks, positions and the last norm: its lower layers are taken out, and a hook gives the first
that remains the cached states instead of what the embeddings made. An architecture that answers otherwise then, because its layers
share weights or are given more than hidden states, cannot be cut.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import structlog
import torch
from torch import nn

from services.core.telemetry.logs import safe_traceback
from services.engine.pooling import Pooler
from services.engine.tokenise import encode
from services.engine.torch import encoder_of, forward, pad_batch
from services.trainer.data.base_check import LONG, SHORT
from services.trainer.data.base_model import BaseModel
from services.trainer.methods import Head
from services.trainer.methods.plan import TRAINED_LAYERS
from services.trainer.methods.pooled import PooledClassifier

_TOLERANCE: Final = 1e-3
"""The largest difference between cut and whole encoder, relative to the largest value."""
log = structlog.get_logger()


def layers_of(encoder: nn.Module) -> nn.ModuleList | None:
    """Return the encoder's layers in order, if there are more than are trained and these share no weights with other modules.

    Of its lists of like modules they are the one with the most weights.
    """
    model = encoder_of(encoder)
    lists = [
        one for one in model.modules() if isinstance(one, nn.ModuleList) and len(set(map(type, one))) == 1
    ]
    layers = max(lists, key=_weights, default=None)
    if layers is None or len(layers) <= TRAINED_LAYERS:
        return None
    every, top = _all_weights(encoder), _all_weights(layers[-TRAINED_LAYERS:])
    return layers if sum(one in set(top) for one in every) == len(top) else None


def share_of_top(encoder: nn.Module) -> float:
    """Return the share of the layers' weights that the last ones have."""
    layers = layers_of(encoder)
    return 1.0 if layers is None else _weights(layers[-TRAINED_LAYERS:]) / max(1, _weights(layers))


def freeze_lower(encoder: nn.Module) -> None:
    """Let only the last layers be trained."""
    layers = layers_of(encoder)
    assert layers is not None  # noqa: S101 - `can_cut` was asked
    encoder.requires_grad_(requires_grad=False)
    for layer in layers[-TRAINED_LAYERS:]:
        layer.requires_grad_()


class TopLayers(PooledClassifier):
    """(ids, mask, states of the layer below) to logits: the last layers of an encoder, its pooling, and a linear head."""

    def __init__(self, encoder: nn.Module, pooler: Pooler, head: Head) -> None:
        """Take the encoder's lower layers out; `join` returns it with them."""
        super().__init__(encoder, pooler, head)
        freeze_lower(encoder)
        layers = layers_of(encoder)
        assert layers is not None  # noqa: S101 - as above
        # In a tuple, so that the weights are this module's once, as the encoder's.
        self._layers, self._lower = (layers,), tuple(layers[:-TRAINED_LAYERS])
        del layers[:-TRAINED_LAYERS]

    def vectors(self, ids: torch.Tensor, mask: torch.Tensor, *states: torch.Tensor) -> torch.Tensor:
        """Return the token vectors; `states`: (texts, tokens, d) of the layer below."""
        with _given(self._layers[0][0], states[0]):
            return super().vectors(ids, mask)

    def join(self) -> nn.Module:
        """Return the whole encoder; this module computes no more."""
        (layers,) = self._layers
        top = tuple(layers)
        del layers[:]
        layers.extend([*self._lower, *top])
        return self.encoder


class Reached(Exception):
    """What the first trained layer was given."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


@contextmanager
def stopping_below(encoder: nn.Module) -> Iterator[None]:
    """Let forward passes of the whole encoder raise Reached at the first trained layer, within."""

    def stop_here(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise Reached(args[0] if args else kwargs["hidden_states"])

    layers = layers_of(encoder)
    assert layers is not None  # noqa: S101 - as above
    hook = layers[-TRAINED_LAYERS].register_forward_pre_hook(stop_here, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def read_states(encoder: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return what the first trained layer is given (texts, tokens, d), within `stopping_below`."""
    try:
        with torch.no_grad():
            forward(encoder_of(encoder), ids, mask)
    except Reached as reached:
        return reached.states
    raise RuntimeError("The layer was not called.")


@contextmanager
def _given(layer: nn.Module, states: torch.Tensor) -> Iterator[None]:
    """Give the layer these states whatever it is called with, within."""

    def replace(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ((states, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": states})

    hook = layer.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def can_cut(base: BaseModel) -> bool:
    """Return whether the last layers on states of the layer below answer as the whole encoder does, and can be trained."""
    if layers_of(base.encoder) is None:
        return False
    rows = encode(base.tokenizer, [SHORT, LONG])
    batches = [rows] if base.padded else [[row] for row in rows]
    try:
        return all(_is_same(base, batch) for batch in batches)
    except Exception as error:  # noqa: BLE001  # whatever an architecture raises: it is trained whole
        log.info("layers_not_cut", architecture=base.errors.architecture, frames=safe_traceback(error))
        return False


def _is_same(base: BaseModel, rows: list[list[int]]) -> bool:
    ids, mask = pad_batch(rows, base.pad_id)
    encoder: Any = copy.deepcopy(base.encoder).cpu()
    with torch.no_grad():
        whole = forward(encoder_of(encoder), ids, mask).last_hidden_state
    with stopping_below(encoder):
        states = read_states(encoder, ids, mask)
    if states.shape[:2] != ids.shape:
        return False
    width = whole.shape[2]
    model = TopLayers(encoder, base.pooler, Head(np.zeros((1, width), np.float32), np.zeros(1, np.float32)))
    found = model.vectors(ids, mask, states)
    worst = (found - whole)[mask.bool()].abs().max()
    return found.requires_grad and bool(worst <= _TOLERANCE * whole[mask.bool()].abs().max())


def _weights(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def _all_weights(module: nn.Module) -> list[int]:
    """Return the id of each weight, as often as it is used."""
    return [id(one) for _, one in module.named_parameters(remove_duplicate=False)]
