"""Suspect labels in a real Label Studio: a link opens exactly their tasks, and a label that is confirmed in the editor leaves the list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.conftest import LABELS, LabelledProject, LocalFitloop
from tests.e2e.editor import logged_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.labelstudio
_LABELLED = 60


def _other(label: str) -> str:
    return LABELS[LABELS.index(label) - 1]


def _report(fitloop: LocalFitloop, project: int, version: str) -> dict[str, Any]:
    answer = httpx.get(f"{fitloop.url}/api/projects/{project}/versions/{version}/report", timeout=30)
    return dict(answer.raise_for_status().json())


def _shown(page: Page, url: str) -> set[int]:
    """Return the tasks that the Data Manager lists at an address."""
    with page.expect_response(lambda answer: "/api/tasks?" in answer.url) as told:
        page.goto(url)
    found = told.value.json()
    assert len(found["tasks"]) == found["total"]
    return {task["id"] for task in found["tasks"]}


def _confirm(page: Page, url: str, label: str) -> None:
    """Choose another label in the editor, then this one again, and update: without a change there is nothing to press."""
    page.goto(url)
    update = page.locator('button:has-text("Update")')
    update.wait_for()
    assert update.is_disabled()
    for name in (_other(label), label):
        page.keyboard.press(str(LABELS.index(name) + 1))
    with page.expect_response(lambda answer: answer.request.method == "PATCH") as told:
        update.click()
    assert told.value.ok


def test_a_label_confirmed_in_the_editor_leaves_the_list_and_is_not_listed_again(
    start_fitloop: Callable[..., LocalFitloop], connect: Callable[..., LabelledProject]
) -> None:
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES=str(_LABELLED))
    labelled = connect(fitloop)
    wrong = {task: _other(label) for task, label in labelled.tasks[5:_LABELLED:10]}
    labelled.annotator.label_all(
        [(task, wrong.get(task, label)) for task, label in labelled.tasks[:_LABELLED]]
    )
    version = fitloop.served(labelled.project, seconds=240)
    found = _report(fitloop, labelled.project, version)
    given = {row["task"]: row["label"] for row in found["suspects"]["rows"]}
    kept, corrected = [task for task in wrong if task in given][:2]
    assert (given[kept], given[corrected]) == (wrong[kept], wrong[corrected])
    with logged_in(labelled.annotator.url) as page:
        assert _shown(page, found["suspects"]["url"]) == given.keys()
        _confirm(page, f"{found['task_url']}{kept}", wrong[kept])
    labelled.annotator.call("DELETE", f"/api/annotations/{_annotation(found, corrected)}/")
    labelled.annotator.label(corrected, dict(labelled.tasks)[corrected])

    def still_listed() -> dict[str, Any]:
        return dict(_report(fitloop, labelled.project, version)["suspects"])

    eventually(
        lambda: {row["task"] for row in still_listed()["rows"]} == given.keys() - {kept, corrected},
        60,
        what="both leave the list before there is another version",
    )
    assert "2 that were listed have been checked since" in still_listed()["in_words"]
    assert still_listed()["url"] != found["suspects"]["url"]

    fitloop.send_command(labelled.project, "train")

    def newer() -> str:
        names = [str(row["version"]) for row in fitloop.state(labelled.project)["versions"]]
        return next((name for name in names if name != version), "")

    again = _report(fitloop, labelled.project, eventually(newer, 240, what="a second version"))["report"]
    assert (again["suspects"]["confirmed"], again["suspects"]["changed"]) == (1, 1)
    assert not {kept, corrected} & {row["task_id"] for row in again["suspects"]["rows"]}


def _annotation(found: dict[str, Any], task: int) -> int:
    rows = found["report"]["suspects"]["rows"]
    return int(next(row["annotation"] for row in rows if row["task_id"] == task))
