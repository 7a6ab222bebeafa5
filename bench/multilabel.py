"""Several labels a text on NLU++: F1 by labelled texts, what each part of the method gives, and whether estimate and gate are right.

Heads are made by the functions that a run calls, of features of the engine that serves them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.nlupp import POOL, Draw, logits_of, read, without_thresholds
from bench.result import Options, Result, Skip, say
from bench.rig import Rig
from services.core.domain import OutOfSample
from services.engine.compute import sigmoid
from services.engine.head import Head as ServedHead
from services.engine.processor import limit_blas_to_one_thread
from services.trainer.data.features import Flags
from services.trainer.evaluation.gate import decide
from services.trainer.evaluation.set_gate import pair_up_sets
from services.trainer.evaluation.set_metrics import expected_f1, f1_of_labels, micro_f1
from services.trainer.methods.one_vs_rest import Fitted
from services.trainer.methods.thresholds import best_threshold
from services.trainer.methods.zero_shot_sets import zero_shot_sets

DOMAINS = ("banking", "hotels")
TEXTS = (50, 100, 300)
GOALS = {
    ("banking", 50): (55.6, 49.3, 11.1), ("banking", 100): (62.2, 55.7, 17.9), ("banking", 300): (73.3, 71.2, 30.1),
    ("hotels", 50): (54.1, 40.7, 27.9), ("hotels", 100): (62.7, 45.4, 37.0), ("hotels", 300): (71.6, 58.5, 47.9),
}  # fmt: skip
"""Micro F1, macro F1 and all labels of a text right, in %."""
RMS_GOALS = {50: 3.6, 100: 2.8, 300: 1.8}
"""Of the estimate, in points, by labelled texts."""
GATE_GOALS = {50: (0.4, 0.1), 100: (0.9, 0.1), 300: (1.0, 0.0)}
"""Versions of half the labels that are held, at least, and versions of all labels that are, at most: shares, by labelled texts."""
SERVED = "as served"
_FIGURES = ("micro", "macro", "exact")


@dataclass(frozen=True, slots=True)
class Honesty:
    """Errors of both estimates in points, and what the gate decided, for some draws."""

    expected: list[float]
    folds: list[float]
    promoted: int
    """Versions of all labels against half of them."""
    held: int
    """The reverse."""

    def cells(self) -> tuple[str, str, str]:
        gate = f"{self.promoted} and {self.held} of {len(self.expected)}"
        return _error(self.expected), _error(self.folds), gate

    def missed(self, texts: int) -> list[str]:
        """Return the goals that were missed."""
        least, most = GATE_GOALS[texts]
        draws, rms = len(self.expected), _rms(self.expected)
        problems = {
            f"estimate, RMS {rms:.1f} of {RMS_GOALS[texts]}": rms > RMS_GOALS[texts],
            f"gate, {self.held} of {draws} held": self.held < least * draws,
            f"gate, {self.promoted} of {draws} promoted": draws - self.promoted > most * draws,
        }
        return [what for what, is_missed in problems.items() if is_missed]


@dataclass(frozen=True, slots=True)
class Score:
    """Shares on the test set."""

    micro: float
    macro: float
    exact: float

    @classmethod
    def of(cls, found: Flags, true: Flags) -> Score:
        exact = float((found == true).all(axis=1).mean())
        return cls(micro_f1(found, true), float(f1_of_labels(found, true)[true.any(axis=0)].mean()), exact)


def run(options: Options, rig: Rig) -> Result:  # noqa: ARG001 - one signature for all
    domains = [found for name in DOMAINS if (found := read(options.data, name))]
    if not domains:
        raise Skip(
            "nlupp/banking.jsonl is missing: set FITLOOP_DATA to the folder that holds it (bench/README.md)."
        )
    limit_blas_to_one_thread()
    rows: list[tuple[str, ...]] = [("texts", "domain", *VARIANTS)]
    more: list[list[str]] = [
        ["texts", "domain", "estimate: bias (RMS)", "out of fold: bias (RMS)", "gate", "missed goals"]
    ]
    shares, missed = dict[str, float](), list[str]()
    names = [["domain", "right of what is suggested, %", "micro F1, %", "labels a text", "texts without"]]
    for domain in domains:
        names.append(_from_names([domain.draw(0, seed) for seed in range(options.seeds)], domain.name))
        say(f"multilabel: from label names alone: {' | '.join(names[-1])}")
        for count in TEXTS:
            draws = [domain.draw(count, seed) for seed in range(options.seeds)]
            scores = {name: [variant(draw) for draw in draws] for name, variant in VARIANTS.items()}
            shares[f"at {count} texts ({domain.name})"] = _mean(scores[SERVED], "micro")
            rows.append((str(count), domain.name, *map(_cell, scores.values())))
            honesty = _honesty(draws)
            problems = [*_missed(scores[SERVED], GOALS[domain.name, count]), *honesty.missed(count)]
            missed += problems
            more.append([str(count), domain.name, *honesty.cells(), "; ".join(problems) or "none"])
            say(f"multilabel: {' | '.join(rows[-1])} || {' | '.join(more[-1])}")
    return Result(
        name="multilabel",
        rows=tuple(rows),
        sentence=f"Micro F1 on NLU++: {', '.join(f'{share:.1f}% {where}' for where, share in shares.items())}.",
        met=not missed,
        goal="micro F1 of "
        + ", ".join(f"{goal[0]:g}% at {count} ({name})" for (name, count), goal in GOALS.items())
        + ", and those of macro F1, whole answers, estimate and gate",
        how=(
            f"NLU++, micro F1 / macro F1 / all labels of a text right, in %; means of {options.seeds} random draws, MiniLM in the engine "
            f"that serves it, half of the other texts as the test set, up to {POOL} as the pool. The estimate is the F1 to expect on the "
            "pool, compared with that on the test set, in points; gate: versions of all labels against half of them that are "
            "promoted, and the reverse that are held. Goals of the estimate: RMS of "
            f"{', '.join(f'{rms} at {count}' for count, rms in RMS_GOALS.items())} texts; of the gate: that many versions of half the "
            f"labels held, {', '.join(f'{least:.0%} at {count}' for count, (least, _) in GATE_GOALS.items())}, and of all labels at most "
            f"{', '.join(f'{most:.0%} at {count}' for count, (_, most) in GATE_GOALS.items())}."
        ),
        more={"From label names alone:": names, "Estimate and gate:": more},
    )


def _from_names(draws: list[Draw], domain: str) -> list[str]:
    """Return what the version from label names alone suggests: without a labelled text."""
    rows = list[tuple[float, ...]]()
    for draw in draws:
        head, _ = zero_shot_sets(draw.given.names, draw.given.pool)
        found = draw.test @ head.weight.T + head.bias >= 0
        right = float((found & draw.true).sum() / found.sum())
        each = found.sum(axis=1)
        rows.append((100 * right, 100 * micro_f1(found, draw.true), each.mean(), 100 * (each == 0).mean()))
    right, f1, each, none = (float(value) for value in np.mean(rows, axis=0))
    return [domain, f"{right:.1f}", f"{f1:.1f}", f"{each:.2f}", f"{none:.0f} %"]


def served(draw: Draw) -> Score:
    """Score the version that a run would publish."""
    return Score.of(logits_of(draw.fitted, draw.test) >= 0, draw.true)


def one_threshold(draw: Draw) -> Score:
    """Choose by one threshold for all labels, without names."""
    found = draw.nameless.fitted
    plain, out_of_fold = without_thresholds(found)
    common = best_threshold(out_of_fold.ravel(), draw.chosen[found.rows].ravel())
    return Score.of(logits_of(found, draw.test) + plain >= common, draw.true)


def at_half(draw: Draw) -> Score:
    """Choose what is more probable than not, without names."""
    found = draw.nameless.fitted
    return Score.of(logits_of(found, draw.test) + without_thresholds(found)[0] >= 0, draw.true)


def names_at_half(draw: Draw) -> Score:
    """Choose what is more probable than not."""
    found = draw.fitted
    return Score.of(logits_of(found, draw.test) + without_thresholds(found)[0] >= 0, draw.true)


def without_names(draw: Draw) -> Score:
    return served(draw.nameless)


VARIANTS: dict[str, Callable[[Draw], Score]] = {
    "p of .5, no names": at_half,
    "one threshold, no names": one_threshold,
    "shrunk thresholds, no names": without_names,
    "names, p of .5": names_at_half,
    SERVED: served,
}


def _honesty(draws: list[Draw]) -> Honesty:
    """Compare both estimates with the truth, and ask the gate about all labels and half of them."""
    expected, folds, promoted, held = list[float](), list[float](), 0, 0
    for draw in draws:
        found, half, truth = draw.fitted, draw.half.fitted, served(draw).micro
        pool = logits_of(found, draw.given.pool)
        share = expected_f1(pool >= 0, sigmoid(pool + without_thresholds(found)[0]))
        expected.append(100 * ((share or 0.0) - truth))
        folds.append(100 * (micro_f1(found.logits >= 0, draw.chosen[found.rows]) - truth))
        promoted += _is_promoted(draw, found, half)
        held += not _is_promoted(draw, half, found)
    return Honesty(expected, folds, promoted, held)


def _is_promoted(draw: Draw, candidate: Fitted, current: Fitted) -> bool:
    """Ask the gate, as a run does: on the labelled texts, of which current has not seen the second half."""
    labels = tuple(map(str, range(draw.chosen.shape[1])))
    truth = {
        str(row): tuple(labels[number] for number in np.flatnonzero(chosen))
        for row, chosen in enumerate(draw.chosen)
    }
    pairs = pair_up_sets(_answers(draw, candidate, labels), _answers(draw, current, labels), truth, None)
    return decide(pairs, same_method=True, labels_removed=(), compared_with="current").promote


def _answers(draw: Draw, found: Fitted, labels: tuple[str, ...]) -> OutOfSample:
    """Return the answers out of fold, and for texts that it did not see those of the head."""
    logits = logits_of(found, draw.given.X)
    logits[found.rows] = found.logits
    rows = ServedHead((), 1.0, found.probabilities).calibrated(logits)
    answers = {str(row): tuple(map(float, given)) for row, given in enumerate(rows)}
    return OutOfSample(labels, "cross-fit", answers, (), tuple(map(float, found.probabilities)))


def _missed(scores: list[Score], goals: tuple[float, ...]) -> list[str]:
    found = {name: _mean(scores, name) for name in _FIGURES}
    return [
        f"{name} {share:.1f} of {goal}"
        for (name, share), goal in zip(found.items(), goals, strict=True)
        if share < goal
    ]


def _mean(scores: list[Score], name: str) -> float:
    return float(100 * statistics.mean(getattr(one, name) for one in scores))


def _cell(scores: list[Score]) -> str:
    return " / ".join(f"{_mean(scores, name):.1f}" for name in _FIGURES)


def _rms(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _error(found: list[float]) -> str:
    return f"{statistics.mean(found):+.1f} ({_rms(found):.1f})"
