"""The texts of a fine-tune as its batches need them, and the hidden states of the layer below those that are trained.

States are computed once for all folds and epochs. In float16 they take 11 KB of a text of 14 tokens and width 384; texts with more
of them than fits, and models with larger values than float16 has, go through the lower layers in each epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

import torch
from torch import nn

from services.engine.compute import STREAM_BUDGET, plan_batches
from services.engine.torch import pad_batch
from services.trainer.data.features import device_of, one_thread_per_batch
from services.trainer.methods.top_layers import read_states, stopping_below
from services.trainer.process.lifecycle import Stop

MAX_BYTES: Final = 512 << 20
"""Of cached states: 43,000 texts of 16 tokens and width 384."""


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """What the first trained layer is given, of all texts, one after another."""

    values: torch.Tensor
    """(tokens, d) float16."""
    starts: tuple[int, ...]
    """(texts + 1,) of each text's tokens."""

    def padded(self, rows: Sequence[int], mask: torch.Tensor) -> torch.Tensor:
        """Return the states (texts, tokens, d) of these texts in fp32, on the mask's device; of padding they are 0."""
        found = torch.zeros(*mask.shape, self.values.shape[1], dtype=self.values.dtype)
        for place, row in enumerate(rows):
            part = self.values[self.starts[row] : self.starts[row + 1]]
            found[place, : len(part)] = part
        return found.to(mask.device).float()


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as token ids, with their hidden states if the model is given these."""

    ids: Sequence[Sequence[int]]
    pad_id: int
    states: HiddenStates | None = None
    rows: Sequence[int] | None = None
    """Of the states, for each text; None: all of them in order."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Return the tokens of each text."""
        return [len(one) for one in self.ids]

    def some(self, rows: Sequence[int]) -> Texts:
        """Return a part of the texts."""
        own = range(len(self.ids)) if self.rows is None else self.rows
        return replace(self, ids=[self.ids[row] for row in rows], rows=[own[row] for row in rows])

    def batch(self, rows: Sequence[int], device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return what the model is called with for these texts."""
        ids, mask = pad_batch([self.ids[row] for row in rows], self.pad_id, device)
        if self.states is None:
            return ids, mask
        return (
            ids,
            mask,
            self.states.padded(rows if self.rows is None else [self.rows[row] for row in rows], mask),
        )


def fits_in_cache(tokens: int, width: int) -> bool:
    """Return whether the states of this many tokens may be kept."""
    return 2 * tokens * width <= MAX_BYTES


def compute_states(
    encoder: nn.Module, ids: Sequence[Sequence[int]], pad_id: int, stop: Stop, *, padded: bool
) -> HiddenStates | None:
    """Compute what the first trained layer is given; None if float16 cannot have it. Raises Preempted."""
    starts, device = tuple(accumulate(map(len, ids), initial=0)), device_of()
    encoder.to(device)

    def compute(rows: list[int]) -> tuple[list[int], torch.Tensor]:
        stop.check()
        tokens, mask = pad_batch([ids[row] for row in rows], pad_id, device)
        return rows, read_states(encoder, tokens, mask).half().cpu()

    batches, values = plan_batches([len(row) for row in ids], STREAM_BUDGET, padded=padded), torch.empty(0)
    with stopping_below(encoder), one_thread_per_batch(device) as pool:
        for rows, found in pool.map(compute, batches):
            if not len(values):
                values = torch.empty(starts[-1], found.shape[2], dtype=found.dtype)
            for place, row in enumerate(rows):
                values[starts[row] : starts[row + 1]] = found[place, : len(ids[row])]
    return HiddenStates(values, starts) if bool(values.isfinite().all()) else None
