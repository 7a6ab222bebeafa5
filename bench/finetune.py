"""Time of a fine-tune on 2,000 texts, compared with the Trainer of transformers as example backends call it.

And with what matrix products of the model's shapes reach alone; the accuracy with the products that this processor does fastest
is compared with that of fp32.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from bench import texts
from bench.fits import Material, fit, material, new_model
from bench.gemm import ceiling, shapes_of, token_gigaflop
from bench.result import Options, Result, Skip, say
from bench.rig import Rig
from services.core.domain import Method, Parameters
from services.trainer.methods.loop import schedule
from services.trainer.methods.plan import Recipe, recipe_for
from services.trainer.methods.precision import TORCH, Precision, choose_precision

GOAL, GOAL_CEILING, GOAL_ACCURACY = 5.0, 0.60, 0.005
TEXTS, EPOCHS, BATCH, MAP_ROWS = 2_000, 3, 8, 1_000
STEPS = TEXTS * EPOCHS // BATCH
_WARM_UP, _TIMED = 10, 30
"""Steps of each of the two timed parts, one before and one after our own run."""


@dataclass(frozen=True, slots=True)
class Fits:
    """Our fits with one kind of products, one for each seed."""

    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


def run(options: Options, rig: Rig) -> Result:  # noqa: ARG001 - one signature for all
    if importlib.util.find_spec("accelerate") is None:
        raise Skip(
            "accelerate is missing, which the Trainer of transformers needs: `pip install accelerate`."
        )
    given = material(
        texts.some(texts.banking77(options.data, "train"), TEXTS, seed=0), texts.intents(options.data)
    )
    shapes = shapes_of(given.base.encoder)
    theirs, ceilings = [trainer_seconds(given, full=options.full)], [ceiling(shapes)]
    chosen = choose_precision(given.base.encoder)
    ours = our_fits(given, {chosen.name, TORCH}, options)
    ceilings.append(ceiling(shapes))
    if not options.full:
        theirs.append(trainer_seconds(given, full=False))
    work = sum(map(len, given.ids)) * EPOCHS * token_gigaflop(shapes, passes=3)
    return _result(ours, chosen, sum(theirs) / len(theirs), work, max(ceilings), options, given)


def our_fits(given: Material, products: Collection[str], options: Options) -> dict[str, Fits]:
    """Train with `services.trainer.methods.loop`, each kind of products in turn, once for each seed."""
    test, intents = texts.banking77(options.data, "test"), texts.intents(options.data)
    truth = np.array([intents.index(label) for _, label in test])
    found = {name: Fits() for name in sorted(products)}
    for seed in range(options.seeds):
        for name, fits in found.items():
            recipe = replace(_recipe(given), seed=seed)
            seconds, logits = fit(given, recipe, [text for text, _ in test], name)
            fits.seconds.append(seconds)
            fits.accuracy.append(float((logits.argmax(axis=1) == truth).mean()))
            say(f"finetune: seed {seed}, {name}: {seconds:.1f} s, {fits.accuracy[-1]:.1%} of the test set")
    return found


def _recipe(given: Material) -> Recipe:
    parameters = Parameters(num_train_epochs=float(EPOCHS))
    return recipe_for(Method.FINETUNE, len(given.ids), given.base.config.hidden_size, parameters)


@dataclass
class PaddedByThousand:
    """Return rows as `dataset.map(tokenize with padding=True, batched=True)` does: padded to the longest of their 1,000."""

    ids: Sequence[Sequence[int]]
    targets: Sequence[int]
    pad_id: int
    longest: list[int] = field(init=False)

    def __post_init__(self) -> None:
        starts = range(0, len(self.ids), MAP_ROWS)
        self.longest = [max(len(row) for row in self.ids[start : start + MAP_ROWS]) for start in starts]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict[str, list[int] | int]:
        row, longest = list(self.ids[number]), self.longest[number // MAP_ROWS]
        missing = longest - len(row)
        mask = [1] * len(row) + [0] * missing
        return {
            "input_ids": row + [self.pad_id] * missing,
            "attention_mask": mask,
            "labels": int(self.targets[number]),
        }


def collate(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the longest row of the batch, as DataCollatorWithPadding does."""
    longest = max(len(row["input_ids"]) for row in rows)
    return {
        "input_ids": torch.tensor(
            [row["input_ids"] + [pad_id] * (longest - len(row["input_ids"])) for row in rows]
        ),
        "attention_mask": torch.tensor(
            [row["attention_mask"] + [0] * (longest - len(row["attention_mask"])) for row in rows]
        ),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def trainer_seconds(given: Material, *, full: bool) -> float:
    """Return the Trainer's seconds for all steps: measured in full, or extrapolated from 30 steps after a warm-up."""
    stamps: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="fitloop-bench-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            max_steps=-1 if full else _WARM_UP + _TIMED,
            learning_rate=2e-5,
            weight_decay=0.01,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        rows: Any = PaddedByThousand(given.ids, given.targets, given.base.pad_id)
        trainer = Trainer(
            model=new_model(given),
            args=arguments,
            train_dataset=rows,
            data_collator=lambda batch: collate(batch, given.base.pad_id),
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)  # it prints a dict of its own at the end
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    if not full:
        seconds = (stamps[-1] - stamps[_WARM_UP - 1]) / (len(stamps) - _WARM_UP) * STEPS
    say(f"finetune: the Trainer {'took' if full else 'would take'} {seconds:.0f} s")
    return seconds


def _result(
    ours: dict[str, Fits],
    chosen: Precision,
    theirs: float,
    work: float,
    most: float,
    options: Options,
    given: Material,
) -> Result:
    """`work` in GFLOP, `most` in GFLOP/s."""
    seconds = {f"ours, {name}": statistics.median(fits.seconds) for name, fits in ours.items()}
    accuracy = {f"ours, {name}": statistics.mean(fits.accuracy) for name, fits in ours.items()}
    seconds[f"Trainer, batches of {BATCH}"] = theirs
    steps = len(schedule([len(row) for row in given.ids], _recipe(given)))
    rows = [("training", "steps", "seconds", "texts/s", "GFLOP/s", "% of the fp32 ceiling", "accuracy, %")]
    for name, spent in seconds.items():
        mean = f"{100 * accuracy[name]:.1f}" if name in accuracy else ""
        count = f"{steps if mean else STEPS}"
        speed, rate = TEXTS * EPOCHS / spent, work / spent
        rows.append(
            (name, count, f"{spent:.1f}", f"{speed:.0f}", f"{rate:.0f}", f"{100 * rate / most:.0f}", mean)
        )
    mine = seconds[f"ours, {chosen.name}"]
    share, times = work / mine / most, theirs / mine
    lost = accuracy[f"ours, {TORCH}"] - accuracy[f"ours, {chosen.name}"]
    part = (
        "measured in full"
        if options.full
        else f"{2 * _TIMED} timed steps (half of them before our runs, half after), times {STEPS}"
    )
    return Result(
        name="finetune",
        rows=tuple(rows),
        sentence=(
            f"Fine-tuning on {TEXTS:,} texts for {EPOCHS} epochs takes {mine:.0f} s, the Trainer {times:.1f} times as long; "
            f"{share:.0%} of the fp32 GEMM ceiling, with {chosen.name}."
        ),
        met=times >= GOAL and share >= GOAL_CEILING and lost <= GOAL_ACCURACY,
        goal=(
            f"at least {GOAL:.0f} times as fast, {GOAL_CEILING:.0%} of the ceiling, and at most "
            f"{100 * GOAL_ACCURACY:.1f} points below the accuracy with fp32"
        ),
        how=(
            f"{TEXTS:,} random banking77 texts, MiniLM with a classification head, {torch.get_num_threads()} threads, in one process. "
            f"Ours: batches by length of up to 1,024 tokens, all steps; medians of {options.seeds} seeds, and their mean accuracy on "
            f"the test set. Measured when it began: {chosen}. The Trainer of transformers: fp32, batches of 8, each text padded to "
            f"the longest of its 1,000 as `map(padding=True, batched=True)` leaves it, {part}. The ceiling, {most:.0f} GFLOP/s, is the best "
            "rate of torch's fp32 products of the model's shapes alone, forward and backward, before and after ours; GFLOP are "
            "those of dense layers on real tokens, without padding and attention."
        ),
    )
