"""The steps of the demo: label texts, wait for Fitloop's suggestions, and compare those on the holdout with its labels."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo.annotator import Annotator
from demo.processes import DemoError

TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one batch of labels."""

    labels: int
    version: str
    """"" before the first version."""
    gate: str
    """The gate's reasons for its decision on the newest version."""
    accuracy: str
    """The accuracy to expect, as the status page says it."""
    estimate: float | None
    """The same as a share; None if there is no figure."""
    test_accuracy: float
    """Accuracy of the stored suggestions on the holdout; a text without a suggestion counts as wrong."""
    seconds: float
    """From the last label to the new version's suggestions in Label Studio."""


def read_texts(name: str) -> list[tuple[str, str]]:
    """Return the (text, label) pairs of `pool` or `holdout`."""
    lines = (TEXTS / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [(row["text"], row["label"]) for row in map(json.loads, lines)]


@dataclass
class Walkthrough:
    """One project in a real Label Studio with a real Fitloop behind it."""

    annotator: Annotator
    fitloop: str
    project: int
    backend: int
    pool: Sequence[tuple[int, str]]
    """(task, label) in the order of labelling."""
    holdout: dict[int, str]
    """Task to label, for texts that are never labelled in Label Studio."""
    timeout_seconds: float = 300.0

    def run(self, steps: Sequence[int]) -> Iterator[Step]:
        """Label up to each number of `steps`, and yield the result; at 0, that of the label names alone."""
        done = 0
        for goal in steps:
            self.annotator.label_all(self.pool[done:goal])
            done = goal
            yield self._wait_for_suggestions(done)

    def _wait_for_suggestions(self, labels: int) -> Step:
        """Wait until no run is active, every label has been read, and the served version's suggestions are stored."""
        begun = time.monotonic()
        pressed = False
        while time.monotonic() - begun < self.timeout_seconds:
            state = self.state()
            is_idle = (
                bool(state) and state["labelled"] == labels and not state["active"] and not state["pending"]
            )
            if is_idle and state["changed"] == 0:
                suggestions = self._suggestions(state)
                if suggestions is not None:
                    return self._step(labels, state, suggestions, time.monotonic() - begun)
            elif is_idle and not pressed:
                self.annotator.start_training(self.backend)
                pressed = True
            time.sleep(0.5)
        raise DemoError(
            f"No result after {self.timeout_seconds:.0f} s. Fitloop reports: {self.state().get('sentence')}"
        )

    def state(self) -> dict[str, Any]:
        """Return the project's status in Fitloop; {} while it does not know the project yet."""
        response = httpx.get(f"{self.fitloop}/api/projects/{self.project}", timeout=30)
        if response.status_code == httpx.codes.NOT_FOUND:
            return {}
        if response.is_error:
            raise DemoError(f"fitloop local answered {response.status_code}: {response.text[:300]}")
        answer: dict[str, Any] = response.json()
        return answer

    def _suggestions(self, state: dict[str, Any]) -> dict[int, str] | None:
        """Return the served version's suggestions once every holdout text has one; {} before the first version."""
        version = state["served"]["current"]
        if version is None:
            return {} if state["labelled"] else None  # before the first label one is made from label names
        found = self.annotator.suggestions(self.project, version)
        return found if self.holdout.keys() <= found.keys() else None

    def _step(self, labels: int, state: dict[str, Any], suggestions: dict[int, str], seconds: float) -> Step:
        current = state["served"]["current"]
        versions = state["versions"]
        serving = next((row for row in versions if row["version"] == current), None)
        expected = (serving or {}).get("expected") or {}
        right = sum(suggestions.get(task) == label for task, label in self.holdout.items())
        return Step(
            labels=labels,
            version=current or "",
            gate=" ".join(versions[0]["gate"]["reasons"]) if versions else state["sentence"],
            accuracy=serving["right"] if serving else "",
            estimate=expected.get("accuracy"),
            test_accuracy=right / max(len(self.holdout), 1),
            seconds=seconds,
        )
