"""Classes of the user's own with a real Label Studio: they train, serve, and are rolled back, over the stand-in and the real library."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import LABELS, LabelledProject, LocalFitloop
from tests.support.model_classes import python_path
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
Connect = Callable[..., LabelledProject]
EXAMPLES = "FITLOOP_TEST_LABEL_STUDIO_ML_EXAMPLES"
"""Names the folder label_studio_ml/examples of a checkout of the library."""
SPANS = (
    '<View><Labels name="label" toName="text"><Label value="PRODUCT"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
TEXT = "The lamp is broken. Please send another lamp, since a lamp is what I need."


class Subject(NamedTuple):
    """A class under test, and where it is found."""

    model: str
    path: str

    def environment(self) -> dict[str, str]:
        return {
            "METHOD": "label-studio-ml",
            "FITLOOP_MODEL": self.model,
            "START_TRAINING_EACH_N_UPDATES": "20",
            "FITLOOP_MODEL_PATH": self.path,
        }


def _own(model: str) -> Subject:
    classes = str(Path(__file__).with_name("classes"))
    return Subject(f"shop_classes:{model}", os.pathsep.join([classes, python_path()]))


def _example(model: str) -> Subject:
    real = python_path("real")
    if not (examples := os.environ.get(EXAMPLES)):
        pytest.skip(f"{EXAMPLES} does not name the examples of label-studio-ml")
    return Subject(model, os.pathsep.join([examples, real]))


@pytest.fixture(params=["shop_classes:Words", "sklearn_text_classifier.model:SklearnTextClassifier"])
def classifier(request: pytest.FixtureRequest) -> Subject:
    """A class that learns Choices over one Text."""
    own = request.param.startswith("shop_classes")
    return _own("Words") if own else _example(request.param)


@pytest.fixture(
    params=["shop_classes:Repeats", "interactive_substring_matching.model:InteractiveSubstringMatching"]
)
def marker(request: pytest.FixtureRequest) -> Subject:
    """A class without `fit` that answers what an annotator has begun."""
    own = request.param.startswith("shop_classes")
    return _own("Repeats") if own else _example(request.param)


def test_a_class_learns_and_its_versions_serve(
    start_fitloop: Start, connect: Connect, annotator: Annotator, classifier: Subject
) -> None:
    fitloop = start_fitloop(**classifier.environment())
    labelled = connect(fitloop)
    assert fitloop.setup_version(labelled.project) == "untrained"

    labelled.label(0, 30)
    first = fitloop.served(labelled.project, seconds=240)
    _suggested(fitloop, labelled, first, 50)
    state = fitloop.state(labelled.project)
    assert f"serving {first}: not evaluated" in state["sentence"]
    (row,) = [one for one in state["versions"] if one["version"] == first]
    assert (row["method"], row["base_model"]) == ("label-studio-ml", classifier.model)
    assert row["gate"]["kind"] == "not-evaluated"
    assert 'fitloop_version_evaluated{project="' in httpx.get(f"{fitloop.url}/metrics", timeout=30).text

    labelled.label(30, 60)
    second = fitloop.served(labelled.project, first, seconds=240)
    _suggested(fitloop, labelled, second, 25)

    fitloop.send_command(labelled.project, "rollback")
    assert fitloop.served(labelled.project, second, seconds=240) == first
    eventually(lambda: fitloop.setup_version(labelled.project) == first)
    assert _answer(fitloop, labelled, annotator)["model_version"] == first


def test_a_class_without_fit_gets_the_context(
    start_fitloop: Start, annotator: Annotator, marker: Subject
) -> None:
    fitloop = start_fitloop(**marker.environment())
    project = annotator.create_project("Products", SPANS)
    (task, other) = annotator.import_texts(project, [TEXT, "No such thing."])
    backend = annotator.connect(project, fitloop.url, is_interactive=True)
    span = {"start": 4, "end": 8, "text": "lamp", "labels": ["PRODUCT"]}
    region = {"from_name": "label", "to_name": "text", "type": "labels", "value": span}
    annotator.call("POST", f"/api/tasks/{other}/annotations/", json={"result": [region]})
    annotator.start_training(backend)
    version = fitloop.served(project, seconds=240)

    body = {"task": task, "context": {"result": [region]}}

    def starts() -> list[int]:
        found = annotator.call("POST", f"/api/ml/{backend}/interactive-annotating", json=body)
        result = (found.get("data") or {}).get("result") or []
        return [one["value"]["start"] for one in result]

    assert eventually(starts, 120) == [4, 40, 54]
    assert version == fitloop.setup_version(project)


def test_two_projects_have_two_classes(start_fitloop: Start, connect: Connect, annotator: Annotator) -> None:
    """The second one's is named in the backend's extra parameters, which may name it."""
    words = _own("Words")
    fitloop = start_fitloop(**words.environment(), FITLOOP_ALLOWED_MODELS="shop_classes:Rep*")
    labelled = connect(fitloop, texts=30)
    labelled.label(0, 20)
    other = annotator.create_project("Products", SPANS)
    (task,) = annotator.import_texts(other, [TEXT])
    refused = {"model": "os:path"}
    backend = annotator.connect(other, fitloop.url, extra_params=refused)
    eventually(lambda: "'os:path' is not allowed by" in str(fitloop.state(other).get("problem")))
    body = {"url": fitloop.url, "project": other, "extra_params": {"model": "shop_classes:Repeats"}}
    annotator.call("PATCH", f"/api/ml/{backend}", json=body)
    region = {"from_name": "label", "to_name": "text", "type": "labels"}
    span = {"start": 4, "end": 8, "text": "lamp", "labels": ["PRODUCT"]}
    annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": [{**region, "value": span}]})
    annotator.start_training(backend)
    found = [fitloop.served(number, seconds=240) for number in (labelled.project, other)]
    rows = [fitloop.state(number)["versions"] for number in (labelled.project, other)]
    classes = [
        row["base_model"]
        for versions, name in zip(rows, found, strict=True)
        for row in versions
        if row["version"] == name
    ]
    assert classes == ["shop_classes:Words", "shop_classes:Repeats"]
    _suggested(fitloop, labelled, found[0], 10)


def _suggested(fitloop: LocalFitloop, labelled: LabelledProject, version: str, tasks: int) -> None:
    """Wait until Label Studio has the version's suggestions, which are labels of the project."""
    state = fitloop.state(labelled.project)
    eventually(
        lambda: len(labelled.suggestions(version)) >= tasks, 240, what=f"suggestions of {version}: {state}"
    )
    found = labelled.suggestions(version)
    assert set(found.values()) <= set(LABELS)
    assert len(set(found.values())) > 1


def _answer(fitloop: LocalFitloop, labelled: LabelledProject, annotator: Annotator) -> dict[str, Any]:
    """Return what /predict answers for the last task."""
    task = annotator.call("GET", f"/api/tasks/{labelled.tasks[-1][0]}")
    config = annotator.call("GET", f"/api/projects/{labelled.project}")["label_config"]
    body = {
        "tasks": [task],
        "project": f"{labelled.project}.1",
        "label_config": config,
        "params": {"context": None},
    }
    answer = httpx.post(f"{fitloop.url}/predict", json=body, timeout=120)
    return dict(answer.raise_for_status().json()["results"][0])
