"""Ratings and taxonomies in a real Label Studio: learnt, suggested, shown by its editor and submitted there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from demo.annotator import Annotator
from demo.walkthrough import read_texts
from tests.e2e.conftest import LABELS, LocalFitloop
from tests.e2e.editor import logged_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.labelstudio
_LABELLED, _TEXTS = 30, 60


@dataclass(frozen=True, slots=True)
class Case:
    """A control, with the answer to each of the three intents and what the editor shows of it."""

    type: str
    tag: str
    values: tuple[Any, ...]
    selector: str
    shown: tuple[str, ...]

    @property
    def config(self) -> str:
        return f'<View><Text name="text" value="$text"/>{self.tag}</View>'

    def region(self, value: Any) -> dict[str, Any]:
        return {"from_name": "c", "to_name": "text", "type": self.type, "value": {self.type: value}}


_TREE = (
    '<Choice value="Orders / Money" alias="o"><Choice value="Cancel"/><Choice value="Invoice" alias="inv"/></Choice>'
    '<Choice value="Damaged"/>'
)
CASES = (
    Case(
        "rating",
        '<Rating name="c" toName="text" maxRating="7"/>',
        (1, 3, 7),
        ".ant-rate-star-full",
        ("1", "3", "7"),
    ),
    Case(
        "taxonomy",
        f'<Taxonomy name="c" toName="text" maxUsages="1" leafsOnly="true" showFullPath="true">{_TREE}</Taxonomy>',
        ([["o", "Cancel"]], [["Damaged"]], [["o", "inv"]]),
        ".htx-taxonomy .ant-select-selection-item-content",
        ("Orders / Money / Cancel", "Damaged", "Orders / Money / Invoice"),
    ),
)


def _stored(annotator: Annotator, project: int, version: str) -> dict[int, dict[str, Any]]:
    rows = annotator.call("GET", "/api/predictions/", params={"project": project})
    return {row["task"]: row for row in rows if row["model_version"] == version}


def _submit(editor: Page, case: Case, url: str) -> str:
    """Open a task, submit what its suggestion has filled in, and return what the editor showed."""
    editor.goto(url, wait_until="commit")
    editor.wait_for_selector(case.selector)
    found = editor.locator(case.selector)
    shown = str(found.count()) if case.type == "rating" else found.inner_text()
    with editor.expect_response(
        lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
    ):
        editor.locator("button[name=submit]").click()
    return shown


@pytest.mark.parametrize("case", CASES, ids=[case.type for case in CASES])
def test_answers_are_learnt_suggested_and_submitted(
    start_fitloop: Callable[..., LocalFitloop], annotator: Annotator, case: Case
) -> None:
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES=str(_LABELLED))
    pool = [(text, LABELS.index(label)) for text, label in read_texts("pool") if label in LABELS][:_TEXTS]
    project = annotator.create_project(case.type, case.config)
    tasks = annotator.import_texts(project, [text for text, _ in pool])
    annotator.connect(project, fitloop.url)
    for task, (_, intent) in list(zip(tasks, pool, strict=True))[:_LABELLED]:
        result = [case.region(case.values[intent])]
        annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    version = fitloop.served(project)
    assert fitloop.state(project)["labelled"] == _LABELLED
    assert fitloop.state(project)["not_counted"] == []

    stored = eventually(
        lambda: found if len(found := _stored(annotator, project, version)) >= _TEXTS - _LABELLED else {},
        60,
        what="suggestions of all texts",
    )
    right = 0
    for task, (_, intent) in list(zip(tasks, pool, strict=True))[_LABELLED:]:
        (region,) = stored[task]["result"]
        assert region == {**case.region(region["value"][case.type]), "score": region["score"]}
        assert region["value"][case.type] in case.values
        right += region["value"][case.type] == case.values[intent]
    assert right >= 0.8 * (_TEXTS - _LABELLED)

    task = tasks[-1]
    suggested = stored[task]["result"][0]["value"]
    with logged_in(annotator.url) as editor:
        shown = _submit(editor, case, f"{annotator.url}/projects/{project}/data?task={task}")
    assert shown == case.shown[case.values.index(suggested[case.type])]
    (annotation,) = annotator.call("GET", f"/api/tasks/{task}/")["annotations"]
    assert [region["value"] for region in annotation["result"]] == [suggested]
    eventually(
        lambda: fitloop.state(project)["labelled"] == _LABELLED + 1, 60, what="the submitted answer to count"
    )
