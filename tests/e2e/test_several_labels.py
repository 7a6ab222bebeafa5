"""`choice="multiple"` in a real Label Studio, on NLU++: suggestions from names, sets of labels in, sets of labels out, none included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import LocalFitloop
from tests.e2e.nlupp import read_rows
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
_LABELLED, _TEXTS = 60, 110


def _config(labels: Iterable[str]) -> str:
    choices = "".join(f'<Choice value="{label}"/>' for label in labels)
    return (
        '<View><Text name="text" value="$text"/>'
        f'<Choices name="intents" toName="text" choice="multiple">{choices}</Choices></View>'
    )


def _region(labels: list[str]) -> dict[str, Any]:
    return {"from_name": "intents", "to_name": "text", "type": "choices", "value": {"choices": labels}}


def _suggested(annotator: Annotator, project: int, version: str) -> dict[int, tuple[set[str], float]]:
    """Return the labels and the score of each task's prediction of the version."""
    rows = annotator.call("GET", "/api/predictions/", params={"project": project})
    return {
        row["task"]: (
            {label for region in row["result"] for label in region["value"]["choices"]},
            row["score"],
        )
        for row in rows
        if row["model_version"] == version
    }


def test_several_labels_a_text_are_suggested_before_and_after_training(
    start_fitloop: Start, annotator: Annotator
) -> None:
    """The project is connected and nobody labels; then a version that was trained on labels is right more often."""
    settings = {"FITLOOP_COLD_START": "true", "START_TRAINING_EACH_N_UPDATES": str(_LABELLED)}
    fitloop, rows = start_fitloop(**settings), read_rows(folds=2)[:_TEXTS]
    labels = sorted({label for _, found in rows for label in found})
    project = annotator.create_project("Intents", _config(labels))
    tasks = annotator.import_texts(project, [text for text, _ in rows])
    annotator.connect(project, fitloop.url)
    first = _check_names(fitloop, annotator, project, dict(zip(tasks, rows, strict=True)))

    for task, (_, found) in list(zip(tasks, rows, strict=True))[:_LABELLED]:
        result = [_region(found)] if found else []
        annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    version = fitloop.served(project, other_than=first, seconds=240)
    state = fitloop.state(project)
    gate = next(row["gate"] for row in state["versions"] if row["version"] == version)
    assert (gate["compared_with"], gate["kind"]) == (first, "better")
    assert state["space"]["multiple"] is True
    assert state["labelled"] == _LABELLED

    unlabelled = dict(zip(tasks, rows, strict=True))
    for task in tasks[:_LABELLED]:
        del unlabelled[task]
    suggested = _all_suggested(annotator, project, version, len(unlabelled))
    compared = _compare({task: suggested[task] for task in unlabelled}, unlabelled)
    assert compared.f1 > 0.35
    assert compared.most > 1


def _check_names(
    fitloop: LocalFitloop, annotator: Annotator, project: int, truth: dict[int, tuple[str, list[str]]]
) -> str:
    """Check the suggestions from label names, and what is said of them; return their version."""
    version = fitloop.served(project, seconds=240)
    assert version.endswith("-label-names-only-1")
    found = _compare(_all_suggested(annotator, project, version, len(truth)), truth)
    assert found.precision > 0.6
    assert found.f1 > 0.35
    assert found.most > 1
    rows = annotator.call("GET", "/api/predictions/", params={"project": project})
    assert any(not row["result"] for row in rows)
    assert not any("score" in region for row in rows for region in row["result"])
    state = fitloop.state(project)
    assert "from label names only, not evaluated" in state["sentence"]
    assert [(row["method"], row["right"]) for row in state["versions"]] == [
        ("zero-shot", "from label names only, not evaluated")
    ]
    for path in ("", f"/versions/{version}"):
        page = httpx.get(
            f"{fitloop.url}/projects/{project}{path}", headers={"accept": "text/html"}, timeout=30
        )
        assert "from label names only, not evaluated" in page.text
    return version


def _all_suggested(
    annotator: Annotator, project: int, version: str, count: int
) -> dict[int, tuple[set[str], float]]:
    """Wait for the suggestions of so many texts, or more."""
    return eventually(
        lambda: found if len(found := _suggested(annotator, project, version)) >= count else {},
        120,
        what="suggestions of all texts",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """How right suggestions are."""

    precision: float
    f1: float
    most: int
    """Labels of one text."""


def _compare(suggested: dict[int, tuple[set[str], float]], truth: dict[int, tuple[str, list[str]]]) -> _Found:
    right = given = wanted = 0
    for task, (labels, score) in suggested.items():
        assert 0 < score <= 1
        true = truth[task][1]
        right, given, wanted = right + len(labels & set(true)), given + len(labels), wanted + len(true)
    most = max(len(labels) for labels, _ in suggested.values())
    return _Found(right / given, 2 * right / (given + wanted), most)


def test_a_fine_tune_suggests_several_labels(start_fitloop: Start, annotator: Annotator) -> None:
    settings = {"METHOD": "lp-ft", "START_TRAINING_EACH_N_UPDATES": str(_LABELLED)}
    fitloop, rows = start_fitloop(**settings), read_rows(folds=2)[:_TEXTS]
    project = annotator.create_project(
        "Tuned", _config(sorted({label for _, found in rows for label in found}))
    )
    tasks = annotator.import_texts(project, [text for text, _ in rows])
    annotator.connect(project, fitloop.url)
    for task, (_, found) in list(zip(tasks, rows, strict=True))[:_LABELLED]:
        result = [_region(found)] if found else []
        annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    version = fitloop.served(project, seconds=420)
    (row,) = fitloop.state(project)["versions"]
    assert (row["method"], row["gate"]["kind"]) == ("lp-ft", "first")
    unlabelled = dict(zip(tasks[_LABELLED:], rows[_LABELLED:], strict=True))
    compared = _compare(_all_suggested(annotator, project, version, len(unlabelled)), unlabelled)
    assert compared.f1 > 0.35
    assert compared.most > 1
