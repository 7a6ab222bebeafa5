"""Serving and fine-tuning on a GPU, in texts per second and in % of what its matrix products reach. Skipped without one."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from bench import texts
from bench.fits import Material, fit, material
from bench.gemm import ceiling, shapes_of, token_gigaflop
from bench.result import Options, Result, Skip, median_and_range, say
from bench.rig import Rig
from services.core.domain import Method, Parameters
from services.engine.compute import compute
from services.engine.pooling import Pooler
from services.engine.torch import TorchEngine, has_bf16
from services.trainer.methods.plan import recipe_for

TEXTS, EPOCHS = 10_000, 3


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work, in rounds."""

    name: str
    speeds: list[float]
    """texts/s of each round."""
    share: float
    """Of the ceiling, by the median."""
    ceiling: float
    """TFLOP/s of the same products alone."""


def run(options: Options, rig: Rig) -> Result:  # noqa: ARG001 - one signature for all
    if not torch.cuda.is_available():
        raise Skip("no GPU: not run.")
    rows = texts.some(texts.banking77(options.data, "train"), TEXTS, seed=0)
    given = material(rows, texts.intents(options.data))
    found = [serve(given, "cuda", options.rounds), train(given, "cuda", options.rounds, EPOCHS)]
    return _result(found, torch.cuda.get_device_name(), options.rounds)


def serve(given: Material, device: str, rounds: int) -> Work:
    """Compute the features of all texts, as for a pool, from token ids to vectors in memory."""
    engine = TorchEngine(
        given.base.source, Pooler("mean", normalize=True), given.base.width, given.base.pad_id, device=device
    )
    compute(engine, given.ids)  # once: kernels are loaded, memory is reserved
    spent = []
    for _ in range(rounds):
        begun = time.perf_counter()
        compute(engine, given.ids)
        spent.append(time.perf_counter() - begun)
        say(f"gpu: features of {len(given.ids):,} texts in {spent[-1]:.2f} s")
    engine.close()
    return work_of(f"features, {engine.kind}", given, device, spent, passes=1)


def train(given: Material, device: str, rounds: int, epochs: int) -> Work:
    """Fine-tune as a run does, with the same batches as on a CPU."""
    parameters = Parameters(num_train_epochs=float(epochs))
    recipe = recipe_for(Method.FINETUNE, len(given.ids), given.base.width, parameters)
    spent = []
    for number in range(rounds + 1):
        seconds, _ = fit(given, recipe, device=device)
        say(f"gpu: fine-tuning for {epochs} epochs took {seconds:.1f} s")
        if number:  # the first round loads kernels
            spent.append(seconds / epochs)
    return work_of("fine-tuning, per epoch", given, device, spent, passes=3)


def work_of(name: str, given: Material, device: str, spent: list[float], passes: int) -> Work:
    """Compare seconds for all texts with the products of their tokens."""
    shapes = shapes_of(given.base.encoder)
    most = ceiling(shapes, device, dtype_of(device), backward=passes > 1)
    work = sum(map(len, given.ids)) * token_gigaflop(shapes, passes)
    speeds = [len(given.ids) / seconds for seconds in spent]
    return Work(name, speeds, work / statistics.median(spent) / most, most / 1e3)


def dtype_of(device: str) -> torch.dtype:
    """Return the type that the engine computes in on this device."""
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if has_bf16(torch.device(device)) else torch.float16


def _result(found: list[Work], card: str, rounds: int) -> Result:
    rows = [("work", "texts/s, median (min-max)", "% of the GEMM ceiling", "ceiling, TFLOP/s")]
    for one in found:
        share, most = f"{100 * one.share:.1f}", f"{one.ceiling:.0f}"
        rows.append((one.name, median_and_range(one.speeds, 0), share, most))
    speeds = [f"{one.name}: {statistics.median(one.speeds):,.0f} texts/s" for one in found]
    return Result(
        name="gpu",
        rows=tuple(rows),
        sentence=f"On one {card}: {'; '.join(speeds)}.",
        met=None,
        how=(
            f"{TEXTS:,} banking77 texts, MiniLM, {rounds} rounds after one that is not counted. Features: token ids to vectors in "
            "memory, in batches by length. Fine-tuning: as a run does, in steps of up to 1,024 tokens, as many as on a CPU, so that "
            "the accuracy is the same: such steps take a GPU no longer than their kernels take to launch. The ceiling is the best "
            "rate of the model's products alone, for 32,768 tokens, in the type that the engine computes in."
        ),
    )
