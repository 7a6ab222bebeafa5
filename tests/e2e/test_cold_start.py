"""Before the first label, with a real Label Studio: suggestions from label names, and the trained version that replaces them."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import LABELS, LabelledProject, LocalFitloop
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio


def test_suggestions_come_before_labels(
    start_fitloop: Callable[..., LocalFitloop], connect: Callable[..., LabelledProject], annotator: Annotator
) -> None:
    """The project is connected and nobody labels. Then labels contradict the names, so a trained version is better."""
    fitloop = start_fitloop(FITLOOP_COLD_START="true", START_TRAINING_EACH_N_UPDATES="40")
    labelled = connect(fitloop, sampling="Uncertainty sampling")
    truth = dict(labelled.tasks)
    first = fitloop.served(labelled.project)
    assert first.endswith("-label-names-only-1")
    eventually(lambda: len(labelled.suggestions(first)) == len(truth), what="a suggestion for each task")
    found = labelled.suggestions(first)
    assert sum(found[task] == label for task, label in truth.items()) / len(truth) > 0.7
    eventually(
        lambda: annotator.call("GET", f"/api/projects/{labelled.project}")["model_version"] == first,
        what="the title is its name",
    )
    (stored,) = annotator.call("GET", f"/api/predictions/?task={labelled.tasks[0][0]}")
    (region,) = stored["result"]
    assert (region["value"]["choices"], "score" in region) == ([found[labelled.tasks[0][0]]], False)
    assert 0 < stored["score"] < 1
    state = fitloop.state(labelled.project)
    assert "from label names only, not evaluated" in state["sentence"]
    assert [(row["method"], row["right"]) for row in state["versions"]] == [
        ("zero-shot", "from label names only, not evaluated")
    ]
    for path in ("", f"/versions/{first}"):
        page = httpx.get(
            f"{fitloop.url}/projects/{labelled.project}{path}", headers={"accept": "text/html"}, timeout=30
        )
        assert "from label names only, not evaluated" in page.text

    for task, label in labelled.tasks[:40]:
        annotator.label(task, LABELS[(LABELS.index(label) + 1) % len(LABELS)])
    second = fitloop.served(labelled.project, other_than=first)
    gate = next(row for row in fitloop.state(labelled.project)["versions"] if row["version"] == second)[
        "gate"
    ]
    assert (gate["compared_with"], gate["kind"]) == (first, "better")
    eventually(lambda: len(labelled.suggestions(second)) == 50, what="its suggestions are stored")
    fitloop.send_command(labelled.project, "rollback")
    assert fitloop.served(labelled.project, other_than=second) == first
    eventually(lambda: fitloop.setup_version(labelled.project) == first, what="/setup names it again")
