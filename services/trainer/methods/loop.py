"""The training loop: batches by length under a token budget, fused AdamW, linear warm-up and decay, gradient clipping.

Annotators label mostly short texts, and padding costs most on them: texts of like length share a batch of up to 1,024 tokens,
which is five to six times faster than batches of eight that are padded to the longest of a thousand.
The order of batches is a function of (seed, epoch), so that a run that resumes at step n continues with batch n.
What multiplies matrices fastest is chosen by `services.trainer.methods.precision`; a GPU that has bf16 computes all in it.
Several processes take the same batches, each a share of the rows; the sum of their gradients is that of the whole batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from services.core.errors import BadConfig, Preempted
from services.engine.compute import GPU_BUDGET, TOKEN_BUDGET, plan_batches
from services.engine.torch import has_bf16
from services.trainer.data.features import Floats, Rows
from services.trainer.methods.checkpoints import FoldCheckpoint
from services.trainer.methods.hidden_states import Texts
from services.trainer.methods.plan import Recipe
from services.trainer.methods.precision import TORCH, computed_by
from services.trainer.methods.vocabulary import only_used_rows
from services.trainer.process.distributed import SINGLE, Group, PeerLost
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress

_POOL = 1_024
"""Random texts among which batches are formed, so that neighbours in length differ each epoch."""
_NO_DECAY = ("bias", "norm")
Targets = Rows | Floats
"""(texts,) the index of each text's label, or (texts, labels) 1 for each label that it has, where it may have several."""


def epoch_batches(lengths: Sequence[int], recipe: Recipe, epoch: int) -> list[list[int]]:
    """Return every row once, in batches of like length within the token budget, in a random order of (seed, epoch)."""
    random = np.random.default_rng((recipe.seed, epoch))
    order = random.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), _POOL):
        batch: list[int] = []
        for row in sorted(order[start : start + _POOL].tolist(), key=lengths.__getitem__):
            full = len(batch) == recipe.batch_texts or (len(batch) + 1) * lengths[row] > recipe.batch_tokens
            full |= not recipe.padded and bool(batch) and lengths[row] != lengths[batch[0]]
            if batch and full:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
    return [batches[number] for number in random.permutation(len(batches))]


def schedule(lengths: Sequence[int], recipe: Recipe) -> list[list[int]]:
    """Return the batches of all steps: whole epochs, then the fraction of the last one."""
    whole, part = int(recipe.epochs), recipe.epochs - int(recipe.epochs)
    batches = [batch for epoch in range(whole) for batch in epoch_batches(lengths, recipe, epoch)]
    if part > 0:
        last = epoch_batches(lengths, recipe, whole)
        batches += last[: math.ceil(len(last) * part)]
    return batches


def rate_at(step: int, steps: int, warm_up: float) -> float:
    """Return the share of the peak learning rate at a step: up during warm-up, then down to zero."""
    rising = max(1, round(steps * warm_up))
    return min((step + 1) / rising, (steps - step) / max(1, steps - rising))


def optimiser_for(model: nn.Module, head: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW; biases and norms do not decay, and the head has its own learning rate."""
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = recipe.head_learning_rate if id(parameter) in in_head else recipe.learning_rate
            decay = 0.0 if any(part in name.lower() for part in _NO_DECAY) else recipe.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    found = [
        {"params": parameters, "lr": rate, "highest_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(found, fused=True)


def train(
    model: nn.Module,
    head: nn.Module,
    texts: Texts,
    targets: Targets,
    recipe: Recipe,
    checkpoint: FoldCheckpoint,
    progress: Progress,
    stop: Stop,
    group: Group = SINGLE,
    products: str = TORCH,
) -> None:
    """Train `model`, which maps a batch of `texts` to logits, in place; resume from the fold's checkpoint if there is one.

    `products` is the name of a Precision. Raises Preempted after a checkpoint was written, DeadlinePassed without one,
    BadConfig if training diverges.
    """
    with only_used_rows(model, texts.ids, texts.pad_id), computed_by(products, model):
        _train(model, head, texts, targets, recipe, checkpoint, progress, stop, group)
    model.eval()


def _train(
    model: nn.Module,
    head: nn.Module,
    texts: Texts,
    targets: Targets,
    recipe: Recipe,
    checkpoint: FoldCheckpoint,
    progress: Progress,
    stop: Stop,
    group: Group,
) -> None:
    optimiser = optimiser_for(model, head, recipe)
    batches = schedule(texts.lengths, recipe)
    torch.manual_seed(recipe.seed)
    first = checkpoint.restore(model, optimiser)
    if not group.leads:
        torch.manual_seed(hash((recipe.seed, group.rank, first)))  # other dropout than rank 0
    group.broadcast_weights(model)
    progress.stage(f"fine-tuning {checkpoint.fold}", steps=len(batches), done=first)
    model.train(recipe.dropout)
    seen, done, started = 0, first, time.perf_counter()
    try:
        for rows in batches[first:]:
            for parameters in optimiser.param_groups:
                parameters["lr"] = parameters["highest_lr"] * rate_at(done, len(batches), recipe.warm_up)
            optimiser.zero_grad(set_to_none=True)
            loss = _gradients_of(model, texts, targets, rows, group)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            done += 1
            if not math.isfinite(value := loss.item()):
                raise BadConfig(
                    f"Training diverged at step {done} of {len(batches)}: set a LEARNING_RATE below "
                    f"{recipe.learning_rate:g}, or none."
                )
            seen += len(rows)
            progress.step(done, value, seen / (time.perf_counter() - started))
            end = group.stop_reason(stop)
            if group.leads and (isinstance(end, Preempted) or checkpoint.due()):
                checkpoint.save(model, optimiser, done)
            if end:
                raise end
    except PeerLost:
        if group.leads:  # the weights are those after a whole step
            checkpoint.save(model, optimiser, done)
        raise


def _gradients_of(
    model: nn.Module,
    texts: Texts,
    targets: Targets,
    rows: Sequence[int],
    group: Group,
) -> torch.Tensor:
    """Set the model's gradients of the batch's mean loss; return that loss. Raises PeerLost."""
    device = next(model.parameters()).device
    mine = rows[group.rank :: group.size]
    share = len(mine) / len(rows)
    taken = mine or rows[:1]  # a text of weight 0: gradients for the same weights as the other ranks'
    batch = texts.batch(taken, device)
    truth = torch.from_numpy(targets[taken]).to(device)
    with precision(device):
        loss = share * loss_of(model(*batch), truth)
    loss.backward()
    return group.reduce_gradients(model, loss)


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean over texts of the cross-entropy; where a text may have several labels, of the sum of each label's by itself."""
    if targets.dim() == 1:
        return cross_entropy(logits, targets)
    return binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(targets)


def logits_of(
    model: nn.Module,
    texts: Texts,
    labels: int,
    stop: Stop,
    *,
    padded_rows: bool = True,
) -> Floats:
    """Return logits (texts, labels) of a trained model. Raises Preempted between two batches."""
    device = next(model.parameters()).device
    logits = np.empty((len(texts), labels), np.float32)
    model.eval()
    with torch.inference_mode():
        budget = GPU_BUDGET if device.type == "cuda" else TOKEN_BUDGET
        for rows in plan_batches(texts.lengths, budget, padded=padded_rows):
            stop.check()
            batch = texts.batch(rows, device)
            with precision(device):
                logits[rows] = model(*batch).float().cpu().numpy()
    return logits


def precision(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bf16 on a GPU that has it: Ampere or newer."""
    return torch.autocast("cuda", torch.bfloat16) if has_bf16(device) else nullcontext()
