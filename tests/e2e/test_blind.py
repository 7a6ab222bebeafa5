"""Blind texts with a real Label Studio: stored without labels, shown in their turn, and what suggestions do is measured by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.annotator import Annotator
from services.adapter.suggestions import is_blind
from tests.e2e.conftest import LabelledProject, LocalFitloop
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
SHARE = 0.5
WITHOUT, WITH = 9.0, 6.0
"""Seconds of an annotation without and with a suggestion."""


def _predictions(labelled: LabelledProject, version: str) -> dict[int, dict[str, Any]]:
    rows = labelled.annotator.call("GET", "/api/predictions/", params={"project": labelled.project})
    return {row["task"]: row for row in rows if row["model_version"] == version}


def _label_next(labelled: LabelledProject, truth: dict[int, str], number: int) -> tuple[int, bool]:
    """Label the task that the editor shows next, beginning with its prediction as the editor does; return it and if it is blind."""
    annotator = labelled.annotator
    task = annotator.call("GET", f"/api/projects/{labelled.project}/next")
    (shown,) = task["predictions"]
    seconds = (WITH if shown["result"] else WITHOUT) + number % 10 / 10
    annotator.label(task["id"], truth[task["id"]], parent_prediction=shown["id"], lead_time=seconds)
    return task["id"], not shown["result"]


def test_blind_tasks_come_in_their_turn_and_are_measured(
    start_fitloop: Callable[..., LocalFitloop],
    connect: Callable[..., LabelledProject],
    annotator: Annotator,
) -> None:
    fitloop = start_fitloop(FITLOOP_BLIND_SHARE=str(SHARE), START_TRAINING_EACH_N_UPDATES="20")
    labelled = connect(fitloop, sampling="Uncertainty sampling")
    labelled.label(0, 20)
    version = fitloop.served(labelled.project)
    fitloop.send_command(labelled.project, "pause")
    stored = eventually(
        lambda: found if len(found := _predictions(labelled, version)) >= 70 else {},
        what="predictions of all unlabelled tasks",
    )
    texts = {task: annotator.text(task) for task, _ in labelled.tasks[20:]}
    blind = {task for task in texts if not stored[task]["result"]}
    assert blind == {task for task, text in texts.items() if is_blind(text, SHARE)}
    first = min(blind)
    annotator.call("GET", f"/api/tasks/{first}")  # Label Studio asks for a prediction if there is none
    assert _predictions(labelled, version) == stored
    annotator.call("DELETE", f"/api/predictions/{stored[first]['id']}/")
    annotator.call("GET", f"/api/tasks/{first}")
    asked = _predictions(labelled, version)
    assert asked[first]["result"] == []
    assert asked[first]["score"] == pytest.approx(stored[first]["score"], abs=1e-3)
    stored = asked

    truth = dict(labelled.tasks)
    order = [_label_next(labelled, truth, number) for number in range(60)]
    assert {task for task, was_blind in order if was_blind} == blind & {task for task, _ in order}
    scores = [stored[task]["score"] for task, _ in order]
    assert scores == sorted(scores)

    def measured() -> dict[str, Any]:
        found = dict(fitloop.state(labelled.project)["figures"]["help"])
        return found if found["blind"] == sum(was_blind for _, was_blind in order) else {}

    found = eventually(measured, 150, what="the blind annotations are measured")
    assert 10 <= found["shown"] <= 60 - found["blind"]  # since the first blind one
    assert found["saved_seconds"]["value"] == pytest.approx(WITHOUT - WITH, abs=0.5)
    page = httpx.get(f"{fitloop.url}/projects/{labelled.project}", headers={"Accept": "text/html"}).text
    assert "Suggestions saved about" in page
    assert "On tasks without a suggestion the model was right on" in page
