"""Accuracy by labels: from none to all of banking77's, what each ingredient of the recipe gives, and what bad input costs.

Heads are made by the functions that a run calls, of features of the engine that serves them; `accuracy` measures whole runs.
"""

from __future__ import annotations

import statistics

from bench.learning import curve, dirty, estimates, peers, suspects, unbalanced
from bench.learning.material import POOL, banking77
from bench.learning.variants import EARLIER_PROBE, RECIPE
from bench.result import Options, Result
from bench.rig import Rig
from services.engine.processor import limit_blas_to_one_thread

GOALS = {0: 0.68, 1: 0.715, 4: 0.80, 8: 0.845, 16: 0.883}
"""Labels per class to accuracy."""


def run(options: Options, rig: Rig) -> Result:  # noqa: ARG001 - one signature for all
    limit_blas_to_one_thread()
    material = banking77(options)
    scores = curve.measure(material, options.seeds)
    given = unbalanced.measure(material, options.seeds)
    told = estimates.measure(material, options.seeds)
    doubted = suspects.measure(material, options.seeds)
    bad = dirty.measure(options) if options.dirty else []
    beside = peers.measure(options, material)
    means = {each: statistics.mean(scores[RECIPE, each]) for each in GOALS}
    before = {each: statistics.mean(scores[EARLIER_PROBE, each]) for each in GOALS if each}
    more = {
        f"{unbalanced.HOW} In %:": [list(row) for row in unbalanced.table(given)],
        "What versions expect of themselves (errors in points, positive where the figure is too high):": [
            list(row) for row in estimates.table(told)
        ],
        "Wrong labels, in %:": [list(row) for row in suspects.table(doubted)],
        "Beside others, with the same labels:": [
            list(row) for row in peers.table(beside, scores, full=options.full)
        ],
    }
    if bad:
        more["Bad input (banking77, 3 draws each, 12 of few labels):"] = [
            list(row) for row in dirty.table(bad)
        ]
    return Result(
        name="learning",
        rows=tuple(curve.rows(scores)),
        sentence=(
            "Test accuracy by labels per class, and in brackets of the probe of 0.1.0: "
            + ", ".join(
                f"{100 * share:.1f}%{f' ({100 * before[each]:.1f}%)' if each in before else ''} at {each}"
                for each, share in means.items()
            )
            + "."
        ),
        met=all(share >= GOALS[each] for each, share in means.items())
        and not any(row.is_below for row in bad)
        and estimates.is_met(told)
        and suspects.is_met(doubted),
        goal=(
            ", ".join(f"{100 * share:g}% at {each}" for each, share in GOALS.items())
            + f"; with bad input nothing below the probe of 0.1.0 beyond noise; {estimates.GOAL}; {suspects.GOAL}"
        ),
        how=(
            f"banking77, 77 intents, {options.seeds} random draws, MiniLM in the engine that serves it, the whole test set of 3,080 "
            f"texts; {POOL:,} unlabelled texts of the training set as the pool, none where all are labelled. Means, in %. The recipe "
            "holds 15 % of the pool back for the estimate. "
            f"{estimates.HOW} {suspects.HOW} {peers.HOW}"
        ),
        more=more,
    )
