"""Vectors of tokens to one of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(texts, tokens, d) and the mask of real tokens, to the mean's direction (texts, d)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    normalised: torch.Tensor = mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return normalised
