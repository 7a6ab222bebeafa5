"""Labels needed for an accuracy when annotators take the next text from a real Label Studio: uncertain ones first, or at random.

An annotator labels what Label Studio's labelling page shows next. After each tenth label, as by default, a run makes a version, which
orders the texts anew. Versions are judged by Fitloop's /predict on texts that were never imported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import httpx

from bench import texts
from bench.predict import ask
from bench.result import Options, Result, say
from bench.rig import NEVER, Backend, Connected, Rig, until
from demo.annotator import label_config

POOL, LEVELS, GOAL, SEEDS = 2_000, (0.80, 0.85), 480, 2
EVERY: Final = 10
"""START_TRAINING_EACH_N_UPDATES, its default."""
STALE: Final = 2
"""Labels that are given in the order of the version before: a run and its delivery take some seconds, a label takes a person five."""
UNCERTAIN, UNIFORM = "Uncertainty sampling", "Uniform sampling"
JUDGED: Final = {
    UNCERTAIN: (0, 100, 200, 300, 340, *range(380, 641, 20)),
    UNIFORM: (0, 200, 400, *range(450, 1_051, 50)),
}
"""Labels of the versions that are judged."""
_SETTINGS: Final = {
    UNCERTAIN: {"START_TRAINING_EACH_N_UPDATES": str(EVERY)},
    UNIFORM: {"START_TRAINING_EACH_N_UPDATES": NEVER},
}
"""At random the order does not depend on versions, so runs are started where one is judged."""
_LIGHTER: Final = {"FITLOOP_REFRESH_MAX_TASKS": "500", "FITLOOP_DELETE_OLD_PREDICTIONS": "false"}
"""What Label Studio has the time for between two versions while a person reads, and has not here."""
Curve = dict[int, float]
"""Accuracy on the test set by labels of the version that was served."""


@dataclass
class Labelling:
    """One project that is labelled."""

    rig: Rig
    backend: Backend
    connected: Connected
    truth: dict[int, str]
    """By task."""
    sampling: str
    count: int = 0
    current: int = 0
    """Tasks that had a suggestion of the version that was served then."""
    waited: list[float] = field(default_factory=list)
    """Seconds for a version."""

    def versions(self) -> Iterator[int]:
        """Label; yield the number of labels each time that a version of them is to be judged."""
        for labels in JUDGED[self.sampling]:
            while self.sampling == UNCERTAIN and labels - self.count > EVERY:
                self._label_to(self.count - self.count % EVERY + EVERY)
                self._await_version()
            self._label_to(labels)
            if self.sampling == UNIFORM and labels:
                self.rig.annotator.start_training(self.connected.backend)
            self._await_version()
            yield labels

    def _label_to(self, labels: int) -> None:
        """Label so many and, if these start a run, some more while it takes place."""
        stale = STALE if self.sampling == UNCERTAIN and labels else 0
        for _ in range(labels + stale - self.count):
            task = self._next()
            shown = {str(row["model_version"]) for row in task["predictions"]}
            served = self.backend.state(self.connected.id)["served"]["current"]
            self.current += served in shown
            self.rig.annotator.label(int(task["id"]), self.truth[int(task["id"])])
            self.count += 1

    def _next(self) -> dict[str, Any]:
        """Return the next task as the labelling page asks for it."""
        project = self.connected.id
        path, what = "/api/dm/actions/", {"id": "next_task", "project": project}
        found: dict[str, Any] = self.rig.annotator.call(
            "POST", path, params=what, json={"project": str(project)}
        )
        return found

    def _await_version(self) -> None:
        """Wait until a run has had all labels but the last few, and Label Studio orders by the version that is served."""
        began = time.monotonic()
        until(lambda: self._is_current() or None, 400, f"a version of {self.count} labels", every=0.3)
        self.waited.append(time.monotonic() - began)

    def _is_current(self) -> bool:
        state = self.backend.resting(self.connected.id)
        if not state or state["labelled"] != self.count or state["changed"] > STALE:
            return False
        project = self.rig.annotator.call("GET", f"/api/projects/{self.connected.id}/")
        return (
            state["served"]["current"] is not None and project["model_version"] == state["served"]["current"]
        )


def run(options: Options, rig: Rig) -> Result:
    curves = {
        sampling: [measure(options, rig, seed, sampling) for seed in range(SEEDS)] for sampling in JUDGED
    }
    return result(curves)


def measure(options: Options, rig: Rig, seed: int, sampling: str) -> Curve:
    """Label a new project until the last level is reached."""
    train, test = (texts.banking77(options.data, part) for part in ("train", "test"))
    pool, config = texts.some(train, POOL, seed), label_config(texts.intents(options.data))
    project = rig.annotator.create_project("Bench", config, sampling=sampling)
    tasks = rig.annotator.import_texts(project, [text for text, _ in pool])
    truth = dict(zip(tasks, [label for _, label in pool], strict=True))
    curve: Curve = {}
    with (
        httpx.Client(timeout=300) as client,
        rig.fitloop(FITLOOP_COLD_START="true", **_SETTINGS[sampling], **_LIGHTER) as backend,
    ):
        labelling = Labelling(rig, backend, rig.attach(backend, project, config), truth, sampling)
        for labels in labelling.versions():
            answers = ask(client, backend.url, labelling.connected, [text for text, _ in test])
            right = [answer == label for answer, (_, label) in zip(answers, test, strict=True)]
            curve[labels] = statistics.mean(right)
            say(
                f"active: seed {seed}, {sampling}, {labels} labels: {curve[labels]:.1%}; {labelling.current} of {labelling.count} tasks "
                f"had the newest suggestion; {statistics.median(labelling.waited):.0f} s for a version"
            )
            if needed(curve, LEVELS[-1]) is not None:
                break
    return curve


def needed(curve: Curve, level: float) -> int | None:
    """Return the fewest labels whose version, and the next one that was judged, are right so often; None if there are none."""
    pairs = pairwise(sorted(curve))
    return next((one for one, other in pairs if min(curve[one], curve[other]) >= level), None)


def result(curves: dict[str, list[Curve]]) -> Result:
    """Return the table: a row for each order and seed."""
    shown = (0, 100, 200, 300, 400, 500, 600)
    header = ("order", "seed", *(f"labels for {100 * level:.0f} %" for level in LEVELS), *map(str, shown))
    rows = [header]
    for sampling, found in curves.items():
        for seed, curve in enumerate(found):
            levels = [_words(curve, needed(curve, level)) for level in LEVELS]
            rows.append(
                (
                    sampling,
                    str(seed),
                    *levels,
                    *(f"{100 * curve[at]:.1f}" if at in curve else "" for at in shown),
                )
            )
    mean, random = (_mean(curves[sampling]) for sampling in (UNCERTAIN, UNIFORM))
    return Result(
        name="active",
        rows=tuple(rows),
        sentence=f"{100 * LEVELS[-1]:.0f} % accuracy takes {mean} labels in the order of uncertainty, and {random} at random, through a real Label Studio.",
        met=all((needed(curve, LEVELS[-1]) or POOL) <= GOAL for curve in curves[UNCERTAIN]),
        goal=f"at most {GOAL} labels for {100 * LEVELS[-1]:.0f} %",
        how=(
            f"banking77, 77 intents, {POOL:,} random texts of the training set without labels as a project, MiniLM, `METHOD=auto`, a first version "
            "from label names. One annotator asks Label Studio for the next task as its labelling page does, and gives the true label. With "
            f"uncertainty sampling a run starts after each {EVERY} labels; {STALE} more are given in the old order, and then the new version is "
            "waited for, since this annotator takes no time to read. 500 tasks get new suggestions from each version, and old ones are not deleted. Accuracy is that of /predict on "
            "all 3,080 texts of the test set, every 20 to 50 labels near the levels; a level counts as reached if the next version that was judged reaches it as well. "
            "The other columns: accuracy by labels, in %."
        ),
    )


def _words(curve: Curve, labels: int | None) -> str:
    return f"> {max(curve)}" if labels is None else str(labels)


def _mean(found: Sequence[Curve]) -> str:
    labels = [needed(curve, LEVELS[-1]) for curve in found]
    if None in labels:
        return f"more than the {max(map(max, found)):,} tried"
    return f"{statistics.mean(filter(None, labels)):.0f}"
