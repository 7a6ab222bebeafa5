"""How fast the base model computes in fp32 on this machine: fine-tuning is planned by it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate

import torch

from services.engine.compute import STREAM_BUDGET, plan_batches
from services.engine.torch import encoder_of, forward, pad_batch
from services.trainer.data.base_model import BaseModel
from services.trainer.data.features import device_of, one_thread_per_batch
from services.trainer.process.lifecycle import Stop

_TOKENS = 8_192
"""Enough for a figure within some per cent: half a second of MiniLM on two cores."""


def seconds_per_token(base: BaseModel, ids: Sequence[list[int]], stop: Stop) -> float:
    """Measure the seconds per token of these texts, each at its own length. Raises BadConfig, Preempted."""
    device = device_of()
    base.encoder.to(device)
    sample = [
        row for row, total in zip(ids, accumulate(map(len, ids)), strict=True) if total <= _TOKENS
    ] or ids[:1]
    batches = plan_batches([len(row) for row in sample], STREAM_BUDGET, padded=base.padded)

    def compute(rows: list[int]) -> None:
        stop.check()
        tokens, mask = pad_batch([sample[row] for row in rows], base.pad_id)
        with torch.inference_mode():
            forward(
                encoder_of(base.encoder), tokens.to(device), mask.to(device)
            ).last_hidden_state.sum().item()

    with base.errors.translate("read the texts"), one_thread_per_batch(device) as pool:
        compute(batches[-1])
        started = time.perf_counter()
        list(pool.map(compute, batches))
    return (time.perf_counter() - started) / max(1, sum(map(len, sample)))
