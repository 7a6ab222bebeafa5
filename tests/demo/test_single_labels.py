"""The demo's single labels: the next task's suggestion by the next version is waited for and compared."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from demo import single_labels
from demo.annotator import Suggestion
from demo.processes import DemoError
from demo.single_labels import label_one_by_one, summarize


class FakeAnnotator:
    """Each label makes a new version, visible at the second look; `is_stuck`: none comes."""

    def __init__(self) -> None:
        self.labelled: list[tuple[int, str]] = []
        self.looks = 0
        self.is_stuck = False

    def next_task(self, project: int) -> int:
        return 10 * project + len(self.labelled)

    def label(self, task: int, choice: str) -> None:
        self.labelled.append((task, choice))
        self.looks = 0

    def text(self, task: int) -> str:
        return f"text of {task}"

    def newest_suggestion(self, task: int) -> Suggestion | None:
        del task
        self.looks += 1
        number = len(self.labelled) - (self.looks < 3 or self.is_stuck)
        return Suggestion(f"v-{number}", "Refund", 0.5 + number / 100)


@pytest.fixture
def annotator(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("_READING_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(single_labels, name, 0.0)
    return FakeAnnotator()


def test_each_label_is_followed_by_the_next_suggestion(annotator: Any) -> None:
    answers = {10: "Refund", 11: "Delivery", 12: "Refund"}
    found = list(label_one_by_one(annotator, 1, answers, 2))
    assert annotator.labelled == [(10, "Refund"), (11, "Delivery")]
    assert [(one.before.version, one.after.version) for one in found] == [("v-0", "v-1"), ("v-1", "v-2")]
    assert all(one.has_changed for one in found)
    shown = StringIO()
    assert summarize(Console(file=shown, width=200), found) < 5.0
    assert "2 of 2 labels changed the next task's suggestion" in shown.getvalue()


def test_version_that_never_comes_is_reported(annotator: Any) -> None:
    annotator.is_stuck = True
    with pytest.raises(DemoError, match="Task 11 still has the suggestion of v-0"):
        list(label_one_by_one(annotator, 1, {10: "Refund"}, 1, timeout_seconds=0.01))
