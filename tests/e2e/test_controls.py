"""Label configs with several controls in a real Label Studio: which one is learnt, and how to choose another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from demo.annotator import Annotator
from demo.walkthrough import read_texts
from tests.e2e.conftest import LABELS, LocalFitloop
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
_CHOICES = "".join(f'<Choice value="{label}"/>' for label in LABELS)
CONFIG = (
    '<View><Text name="text" value="$text"/>'
    '<Labels name="spans" toName="text"><Label value="Name"/></Labels>'
    '<Choices name="of_span" toName="text" perregion="true"><Choice value="Person"/><Choice value="Shop"/></Choices>'
    '<Choices name="team" toName="text" visibleWhen="choice-selected" whenTagName="main">'
    '<Choice value="Sales"/><Choice value="Store"/><Choice value="Office"/></Choices>'
    f'<Choices name="main" toName="text">{_CHOICES}</Choices></View>'
)


TEAMS = ("Sales", "Store", "Office")


def _region(control: str, choice: str, **more: Any) -> dict[str, Any]:
    value = {"choices": [choice], **more}
    return {"from_name": control, "to_name": "text", "type": "choices", "value": value}


def _wait_for_title(annotator: Annotator, project: int, version: str) -> None:
    """Wait until our title is set: until then Label Studio may save the backend as it was read before, without a change made meanwhile."""
    eventually(
        lambda: annotator.call("GET", f"/api/projects/{project}")["model_version"] == version,
        60,
        what=f"the title {version}",
    )


def _controls(annotator: Annotator, project: int, version: str) -> set[str]:
    """Return the controls of all predictions of the version in Label Studio."""
    rows = annotator.call("GET", "/api/predictions/", params={"project": project})
    return {row["result"][0]["from_name"] for row in rows if row["model_version"] == version}


def test_the_control_of_a_project_can_be_changed(start_fitloop: Start, annotator: Annotator) -> None:
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES="30")
    pool = [(text, label) for text, label in read_texts("pool") if label in LABELS][:60]
    project = annotator.create_project("Several questions", CONFIG)
    tasks = annotator.import_texts(project, [text for text, _ in pool])
    backend = annotator.connect(project, fitloop.url)
    for task, (_, label) in list(zip(tasks, pool, strict=True))[:30]:
        regions = [
            _region("of_span", "Shop", start=0, end=3, text="x"),
            _region("team", TEAMS[LABELS.index(label)]),
            _region("main", label),
        ]
        annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": regions})
    first = fitloop.served(project)
    assert fitloop.state(project)["space"]["from_name"] == "main"
    assert 'perregion="true"' in fitloop.state(project)["space"]["note"]
    eventually(lambda: _controls(annotator, project, first), 60, what="suggestions of the first version")
    assert _controls(annotator, project, first) == {"main"}
    _wait_for_title(annotator, project, first)

    annotator.call(
        "PATCH",
        f"/api/ml/{backend}",
        json={"url": fitloop.url, "project": project, "extra_params": {"control": "team"}},
    )
    second = fitloop.served(project, other_than=first)
    assert fitloop.state(project)["space"]["labels"] == list(TEAMS)
    eventually(lambda: _controls(annotator, project, second), 60, what="suggestions of the second version")
    assert _controls(annotator, project, second) == {"team"}
    _wait_for_title(annotator, project, second)

    annotator.call(
        "PATCH",
        f"/api/ml/{backend}",
        json={"url": fitloop.url, "project": project, "extra_params": {"control": "of_span"}},
    )
    problem = eventually(
        lambda: actual if "'of_span'" in (actual := fitloop.state(project)["problem"]) else "",
        60,
        what="a problem",
    )
    assert 'perregion="true"' in str(problem)
    eventually(lambda: fitloop.state(project)["space"] is None, 60, what="no label space")
