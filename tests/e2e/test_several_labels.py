"""`choice="multiple"` in a real Label Studio, on NLU++: sets of labels in, sets of labels out, texts without a label included."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import LocalFitloop
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
_NLUPP = Path(os.environ.get("FITLOOP_DATA", "../shared/data")) / "nlupp" / "banking.jsonl"
_LABELLED, _TEXTS = 60, 110


def _rows() -> list[tuple[str, list[str]]]:
    if not _NLUPP.exists():
        pytest.skip(f"{_NLUPP} is missing: FITLOOP_DATA names the folder that holds it")
    rows = [json.loads(line) for line in _NLUPP.read_text("utf-8").splitlines()]
    found = {row["text"]: row["intents"] for row in rows if row["fold"] < 2}  # texts occur more than once
    return list(found.items())[:_TEXTS]


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


def test_several_labels_a_text_are_learnt_and_suggested(start_fitloop: Start, annotator: Annotator) -> None:
    fitloop, rows = start_fitloop(START_TRAINING_EACH_N_UPDATES=str(_LABELLED)), _rows()
    labels = sorted({label for _, found in rows for label in found})
    project = annotator.create_project("Intents", _config(labels))
    tasks = annotator.import_texts(project, [text for text, _ in rows])
    annotator.connect(project, fitloop.url)
    for task, (_, found) in list(zip(tasks, rows, strict=True))[:_LABELLED]:
        result = [_region(found)] if found else []
        annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    version = fitloop.served(project, seconds=240)
    state = fitloop.state(project)
    assert state["space"]["multiple"] is True
    assert state["labelled"] == _LABELLED

    unlabelled = dict(zip(tasks, rows, strict=True))
    for task in tasks[:_LABELLED]:
        del unlabelled[task]
    eventually(
        lambda: len(_suggested(annotator, project, version)) >= len(unlabelled),
        120,
        what="suggestions of all texts",
    )
    suggested = _suggested(annotator, project, version)
    both = right = 0
    for task, (_, true) in unlabelled.items():
        given, score = suggested[task]
        assert 0 < score <= 1
        both, right = both + len(given) + len(true), right + len(given & set(true))
    assert 2 * right / both > 0.35
    assert max(len(given) for given, _ in suggested.values()) > 1
