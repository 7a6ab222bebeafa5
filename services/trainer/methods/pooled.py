"""An encoder with its base model's pooling under a linear head, in torch: the same features as the engine's, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import nn

from services.engine.head import Layer
from services.engine.pooling import Pooler
from services.engine.torch import encoder_of, forward
from services.trainer.methods import Head

_ACTIVATIONS: Final[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "none": lambda values: values,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
}


class PooledClassifier(nn.Module):
    """(ids, mask) to logits: the encoder's features and one linear layer; the base model's dense layers stay as they are."""

    def __init__(self, encoder: nn.Module, pooler: Pooler, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self._pooler = pooler
        self.head = nn.Linear(head.weight.shape[1], head.weight.shape[0])
        self.head.weight.data = torch.from_numpy(head.weight.copy())
        self.head.bias.data = torch.from_numpy(head.bias.copy())

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *states: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) twice, and what else `vectors` takes, to (texts, labels)."""
        logits: torch.Tensor = self.head(pool(self.vectors(ids, mask, *states), mask, self._pooler))
        return logits

    def vectors(self, ids: torch.Tensor, mask: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        """Return the token vectors (texts, tokens, d)."""
        hidden: torch.Tensor = forward(encoder_of(self.encoder), ids, mask).last_hidden_state
        return hidden


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooler: Pooler) -> torch.Tensor:
    """Pool hidden states (texts, tokens, d) over the tokens in `mask` (texts, tokens), padded on the right."""
    features = _MODES[pooler.mode](hidden, mask.unsqueeze(-1).to(hidden.dtype))
    for layer in pooler.layers:
        features = dense(features, layer)
    return torch.nn.functional.normalize(features, eps=1e-12) if pooler.normalize else features


def dense(features: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Apply a dense layer to features (texts, d)."""
    weight, bias = (torch.from_numpy(one).to(features) for one in (layer.weight, layer.bias))
    return _ACTIVATIONS[layer.activation](features @ weight.T + bias)


def _weighted_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask * torch.arange(1, hidden.shape[1] + 1).to(mask)[None, :, None]
    return (hidden * weights).sum(1) / weights.sum(1)


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    last = mask.sum(1).long().squeeze(-1) - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


_MODES: Final[dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "cls": lambda hidden, _: hidden[:, 0],
    "lasttoken": _last,
    "max": lambda hidden, mask: hidden.masked_fill(mask == 0, -torch.inf).amax(1),
    "mean": lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1),
    "mean_sqrt_len_tokens": lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1).sqrt(),
    "weightedmean": _weighted_mean,
}
