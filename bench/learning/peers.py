"""The same labels for others: a classifier trained with the parameters of example backends, and SetFit.

Each draw of labels is one that the recipe learns from as well, and all are judged by the whole test set. SetFit is installed into
.bench/setfit, and called in a process of its own; where it cannot be, its row says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import texts
from bench.accuracy import EXAMPLE, seeds_parameters
from bench.learning.curve import Scores, mean
from bench.learning.material import Material
from bench.learning.variants import EARLIER_PROBE, RECIPE
from bench.peers.servers import NotInstalled, environment
from bench.result import Options, say
from bench.rig import base

PAIRS = {1: 20, 4: 5}
"""Labels per class to the pairs that SetFit makes of each text."""
_ALL_PAIRS = {1: 20, 4: 20, 8: 20, 16: 20}
"""With --full, as in SetFit's publication: hours on two cores."""
SETFIT = "SetFit, MiniLM"
HOW = (
    "Others learn from the same texts of the same draws, and start from the same MiniLM: the example backends' batches of 8, learning "
    "rate 2e-5, 3 epochs and stock head on [CLS], and SetFit 1.2 with its defaults but for the pairs of each text. Neither reads names "
    "or unlabelled texts."
)
_SETFIT = ("setfit==1.2.0",)
_SECONDS = 7_200
_PROGRAM = Path(__file__).with_name("setfit_process.py")
Found = dict[tuple[str, int], list[float] | str]
"""Name and labels per class to the accuracies, one of each draw, or why there are none."""


def measure(options: Options, material: Material) -> Found:
    """Return the accuracy of each at each number of labels."""
    train, test = (texts.banking77(options.data, part) for part in ("train", "test"))
    intents = texts.intents(options.data)
    found: Found = {}
    for each, pairs in (_ALL_PAIRS if options.full else PAIRS).items():
        draws = [[train[row] for row in material.draw(each, seed).rows] for seed in range(options.seeds)]
        found[EXAMPLE, each] = [
            seeds_parameters(some, test, intents, seed).accuracy for seed, some in enumerate(draws)
        ]
        found[SETFIT, each] = _of_all(draws, _setfit(test, pairs))
        say(f"learning: {each} a class, {EXAMPLE} {found[EXAMPLE, each]}, SetFit {found[SETFIT, each]}")
    return found


def table(found: Found, scores: Scores, *, full: bool) -> list[tuple[str, ...]]:
    """Return a row for each, with means in %."""
    sizes = sorted({each for _, each in found})
    own = [(name, *(mean(scores[name, each]) for each in sizes)) for name in (RECIPE, EARLIER_PROBE)]
    others = [(name, *(_cell(found[name, each]) for each in sizes)) for name in (EXAMPLE, SETFIT)]
    pairs = (str((_ALL_PAIRS if full else PAIRS)[each]) for each in sizes)
    made = ("pairs of the same label, and of others, that SetFit makes of each text", *pairs)
    return [("labels per class", *map(str, sizes)), *own, *others, made]


def _cell(found: list[float] | str) -> str:
    return found if isinstance(found, str) else mean(found)


def _of_all(
    draws: Sequence[texts.Labelled], train: Callable[[texts.Labelled, int], float | str]
) -> list[float] | str:
    """Return the accuracy of each draw, or the first reason why there is none."""
    found: list[float] = []
    for seed, some in enumerate(draws):
        score = train(some, seed)
        if isinstance(score, str):
            return score
        found.append(score)
    return found


def _setfit(test: texts.Labelled, pairs: int) -> Callable[[texts.Labelled, int], float | str]:
    """Return what trains SetFit in its own environment and returns its accuracy, or why there is none."""

    def train(some: texts.Labelled, seed: int) -> float | str:
        try:
            python = environment(Path(".bench/setfit").absolute(), _SETFIT) / "python"
        except NotInstalled as error:
            return f"not installed: {error}"
        with tempfile.TemporaryDirectory() as folder:
            given = {"base": str(base()), "train": some, "test": test, "pairs": pairs, "seed": seed}
            (Path(folder) / "work.json").write_text(json.dumps(given), encoding="utf-8")
            offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": folder, "WANDB_MODE": "disabled"}
            done = subprocess.run(  # our own program
                [python, _PROGRAM, "work.json"],
                env={**os.environ, **offline},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=sys.stderr,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        return float(done.stdout.split()[-1]) if done.returncode == 0 else f"failed ({done.returncode})"

    return train
