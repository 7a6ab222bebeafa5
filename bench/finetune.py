"""Time of a fine-tune on 2,000 texts, compared with the Trainer of transformers as example backends call it."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from bench import texts
from bench.fits import Material, fit, material, new_model
from bench.result import Options, Result, Skip, say
from bench.rig import Rig
from services.core.domain import Method, Parameters
from services.trainer.methods.loop import schedule
from services.trainer.methods.plan import recipe_for

GOAL = 5.0
TEXTS, EPOCHS, BATCH, MAP_ROWS = 2_000, 3, 8, 1_000
STEPS = TEXTS * EPOCHS // BATCH
_WARM_UP, _TIMED = 10, 30
"""Steps of each of the two timed parts, one before and one after our own run."""


def run(options: Options, rig: Rig) -> Result:  # noqa: ARG001 - one signature for all
    if importlib.util.find_spec("accelerate") is None:
        raise Skip(
            "accelerate is missing, which the Trainer of transformers needs: `pip install accelerate`."
        )
    given = material(
        texts.some(texts.banking77(options.data, "train"), TEXTS, seed=0), texts.intents(options.data)
    )
    theirs = [trainer_seconds(given, full=options.full)]
    ours, steps = our_seconds(given)
    if not options.full:
        theirs.append(trainer_seconds(given, full=False))
    return _result(ours, steps, sum(theirs) / len(theirs), full=options.full)


def our_seconds(given: Material) -> tuple[float, int]:
    """Train with `services.trainer.methods.loop`; return seconds and steps."""
    parameters = Parameters(num_train_epochs=float(EPOCHS))
    recipe = recipe_for(Method.FINETUNE, len(given.ids), given.base.config.hidden_size, parameters)
    seconds, _ = fit(given, recipe)
    say(f"finetune: our loop took {seconds:.1f} s")
    return seconds, len(schedule([len(row) for row in given.ids], recipe))


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


def _result(ours: float, steps: int, theirs: float, *, full: bool) -> Result:
    times = theirs / ours
    part = (
        "measured in full"
        if full
        else f"{2 * _TIMED} timed steps (half of them before our run, half after), times {STEPS}"
    )
    rows = (
        ("training", "steps", "seconds", "texts/s"),
        ("services.trainer.methods.loop", f"{steps}", f"{ours:.1f}", f"{TEXTS * EPOCHS / ours:.0f}"),
        (f"Trainer, batches of {BATCH}", f"{STEPS}", f"{theirs:.0f}", f"{TEXTS * EPOCHS / theirs:.0f}"),
    )
    return Result(
        name="finetune",
        rows=rows,
        sentence=f"Fine-tuning on {TEXTS:,} texts for {EPOCHS} epochs takes {ours:.0f} s, the Trainer {times:.1f} times as long.",
        met=times >= GOAL,
        goal=f"at least {GOAL:.0f} times as fast",
        how=(
            f"{TEXTS:,} random banking77 texts, MiniLM with a classification head, fp32 with {torch.get_num_threads()} threads, in one process. Ours: "
            "batches by length of up to 1,024 tokens, all steps. The Trainer of transformers: batches of 8, each text padded to "
            f"the longest of its 1,000 as `map(padding=True, batched=True)` leaves it, {part}."
        ),
    )
