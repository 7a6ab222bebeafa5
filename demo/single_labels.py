"""The second part of the demo: one label at a time, each followed by a new version, and how soon the next suggestion changes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from demo.annotator import Annotator, Suggestion
from demo.processes import DemoError, Server

SETTINGS: Mapping[str, str] = {
    "START_TRAINING_EACH_N_UPDATES": "1",
    "METHOD": "linear-probe",
    "FITLOOP_COLD_START": "false",
}
"""Of `fitloop local`: every label starts a run, which takes about a second. The first version is a trained one: one from label names is
replaced only by one that is right more often."""
_READING_SECONDS = 2.0
"""For which an annotator reads a text."""
_LOOK_SECONDS = 0.25
"""Between two looks: Label Studio answers one request at a time here, and would be busy with ours."""


@dataclass(frozen=True, slots=True)
class SingleLabel:
    """What one label has changed."""

    label: str
    """The one that was submitted."""
    next_text: str
    """Of the task that Label Studio shows next."""
    before: Suggestion
    after: Suggestion
    seconds: float
    """From the submit to the next task's suggestion by a version that has learned from the label."""

    @property
    def has_changed(self) -> bool:
        """Whether the next task has another label or score than before."""
        return (self.before.label, self.before.score) != (self.after.label, self.after.score)


def restart(own: Server) -> Server:
    """Start `fitloop local` again, so that it trains after each label."""
    own.stop()
    again = replace(own, environment={**own.environment, **SETTINGS}, process=None)
    again.start()
    again.wait(60)
    return again


def label_one_by_one(
    annotator: Annotator, project: int, answers: Mapping[int, str], count: int, timeout_seconds: float = 60.0
) -> Iterator[SingleLabel]:
    """Label the task that Label Studio shows, `count` times; `answers` are the labels by task."""
    task = annotator.next_task(project)
    for _ in range(count):
        time.sleep(_READING_SECONDS)
        label, began = answers[task], time.monotonic()
        annotator.label(task, label)
        task = annotator.next_task(project)
        before = annotator.newest_suggestion(task)
        if before is None:
            raise DemoError(f"Task {task} has no suggestion, although a version is served.")
        after = _wait_for_other_version(annotator, task, before, began + timeout_seconds)
        yield SingleLabel(label, annotator.text(task), before, after, time.monotonic() - began)


def _wait_for_other_version(annotator: Annotator, task: int, before: Suggestion, until: float) -> Suggestion:
    while time.monotonic() < until:
        found = annotator.newest_suggestion(task)
        if found and found.version != before.version:
            return found
        time.sleep(_LOOK_SECONDS)
    raise DemoError(f"Task {task} still has the suggestion of {before.version}: see the status page.")


def summarize(console: Console, found: Sequence[SingleLabel]) -> float:
    """Print what each label has changed; return the median of the seconds."""
    table = Table("label", "next text", "its suggestion before", "and after", "seconds")
    for one in found:
        table.add_row(
            one.label, one.next_text[:40], _shown(one.before), _shown(one.after), f"{one.seconds:.1f}"
        )
    console.print(table)
    median = statistics.median(one.seconds for one in found)
    changed = sum(one.has_changed for one in found)
    console.print(
        f"Seconds from label to better suggestion: [bold]{median:.1f}[/] (median of {len(found)}); "
        f"{changed} of {len(found)} labels changed the next task's suggestion.",
        highlight=False,
    )
    return median


def _shown(suggestion: Suggestion) -> str:
    return f"{suggestion.label} {suggestion.score:.3f}"
