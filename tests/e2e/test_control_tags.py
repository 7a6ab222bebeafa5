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
from tests.e2e.nlupp import read_rows
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.labelstudio
_LABELLED, _TEXTS, _MANY = 30, 60, 80


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


def _submit(editor: Page, case: Case, url: str) -> list[str]:
    """Open a task, submit what its suggestion has filled in, and return what the editor showed."""
    editor.goto(url, wait_until="commit")
    editor.wait_for_selector(case.selector)
    found = editor.locator(case.selector)
    shown = [str(found.count())] if case.type == "rating" else found.all_inner_texts()
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
    assert shown == [case.shown[case.values.index(suggested[case.type])]]
    (annotation,) = annotator.call("GET", f"/api/tasks/{task}/")["annotations"]
    assert [region["value"] for region in annotation["result"]] == [suggested]
    eventually(
        lambda: fitloop.state(project)["labelled"] == _LABELLED + 1, 60, what="the submitted answer to count"
    )


_PATHS = {
    "card": ("Topic", "card"),
    "account": ("Topic", "account"),
    "appointment": ("Topic", "appointment"),
    "fees_interests": ("Topic", "fees or interest"),
    "cancel_close_leave_freeze": ("Wish", "cancel or close"),
    "how_much": ("Wish", "how much"),
    "transfer_payment_deposit": ("Wish", "transfer or payment"),
}
"""Intents of NLU++ as paths of a tree."""


def _branch(root: str) -> str:
    leaves = (leaf for top, leaf in _PATHS.values() if top == root)
    return f'<Choice value="{root}">' + "".join(f'<Choice value="{leaf}"/>' for leaf in leaves) + "</Choice>"


_SEVERAL = Case(
    "taxonomy",
    f'<Taxonomy name="c" toName="text" leafsOnly="true" showFullPath="true">{_branch("Topic")}{_branch("Wish")}</Taxonomy>',
    (),
    ".htx-taxonomy .ant-select-selection-item-content",
    (),
)


def _paths_of(row: dict[str, Any]) -> list[list[str]]:
    return [path for region in row["result"] for path in region["value"]["taxonomy"]]


def test_several_paths_are_suggested_learnt_and_submitted(
    start_fitloop: Callable[..., LocalFitloop], annotator: Annotator
) -> None:
    """First from the names of the paths; then by what annotators chose, of which the editor submits all paths of a suggestion."""
    fitloop = start_fitloop(FITLOOP_COLD_START="true", START_TRAINING_EACH_N_UPDATES=str(_MANY))
    rows = [(text, [list(_PATHS[one]) for one in found if one in _PATHS]) for text, found in read_rows()]
    rows = [(text, paths) for text, paths in rows if paths][: _MANY + 40]
    project = annotator.create_project("Paths", _SEVERAL.config)
    tasks = annotator.import_texts(project, [text for text, _ in rows])
    annotator.connect(project, fitloop.url)
    first = fitloop.served(project, seconds=240)
    stored = _all_stored(annotator, project, first, len(tasks))
    assert first.endswith("-label-names-only-1")
    assert _precision(stored, dict(zip(tasks, rows, strict=True))) > 0.5

    for task, (_, paths) in list(zip(tasks, rows, strict=True))[:_MANY]:
        result = [_SEVERAL.region(paths)]
        annotator.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    version = fitloop.served(project, other_than=first, seconds=240)
    state = fitloop.state(project)
    assert (state["labelled"], state["not_counted"], state["space"]["multiple"]) == (_MANY, [], True)
    rest = dict(list(zip(tasks, rows, strict=True))[_MANY:])
    found = _all_stored(annotator, project, version, len(rest))
    stored = {task: found[task] for task in rest}
    assert _precision(stored, rest) > 0.6

    task = max(stored, key=lambda one: len(_paths_of(stored[one])))
    suggested = _paths_of(stored[task])
    assert len(suggested) > 1
    with logged_in(annotator.url) as editor:
        shown = _submit(editor, _SEVERAL, f"{annotator.url}/projects/{project}/data?task={task}")
    assert sorted(shown) == sorted(" / ".join(path) for path in suggested)
    (annotation,) = annotator.call("GET", f"/api/tasks/{task}/")["annotations"]
    assert [sorted(region["value"]["taxonomy"]) for region in annotation["result"]] == [sorted(suggested)]
    eventually(lambda: fitloop.state(project)["labelled"] == _MANY + 1, 60, what="the answer to count")


def _all_stored(annotator: Annotator, project: int, version: str, count: int) -> dict[int, dict[str, Any]]:
    """Wait for the suggestions of so many texts, or more."""
    return eventually(
        lambda: found if len(found := _stored(annotator, project, version)) >= count else {},
        120,
        what="suggestions of all texts",
    )


def _precision(stored: dict[int, dict[str, Any]], truth: dict[int, tuple[str, list[list[str]]]]) -> float:
    """Return the share of suggested paths that are right."""
    pairs = [(path, truth[task][1]) for task, row in stored.items() for path in _paths_of(row)]
    return sum(path in true for path, true in pairs) / len(pairs)
