"""The tasks of tests/core/labels in Label Studio's own editor: it shows the text that Fitloop reads.

White space is compared as a single space; additions of the editor (times of paragraphs) are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import pytest

from demo.annotator import Annotator
from tests.core.labels.texts import ROWS, Row
from tests.e2e.editor import logged_in

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.labelstudio
CONFIGS = [
    (tag, list(rows)) for tag, rows in groupby(sorted(ROWS, key=lambda row: row.tag), lambda row: row.tag)
]
NEUTRAL = '<View><Header value="nothing"/></View>'
SHOWN = """() => {
    const errors = document.querySelector('.lsf-errors');
    const frame = document.querySelector('.lsf-richtext__iframe');
    const text = document.querySelector('.lsf-richtext__container');
    const phrases = [...document.querySelectorAll('[data-testid^="phrase:"]')];
    if (errors) return 'errors: ' + errors.innerText;
    if (frame) return frame.contentDocument?.readyState === 'complete' && frame.contentDocument.URL === 'about:srcdoc' ? frame.contentDocument.body.innerText : null;
    if (text) return text.innerText;
    if (!phrases.length) return null;
    const own = '[class*="time--"], [class*="__time"], button';
    return phrases.map(phrase => {
        const copy = phrase.cloneNode(true);
        copy.querySelectorAll(own).forEach(one => one.remove());
        return [...copy.querySelectorAll('span')].filter(one => !one.querySelector('span')).map(one => one.textContent).join('\\n');
    }).join('\\n');
}"""


@pytest.fixture(scope="module")
def editor(annotator: Annotator) -> Iterator[Page]:
    """A logged-in page."""
    with logged_in(annotator.url) as page:
        yield page


@pytest.mark.parametrize(("tag", "rows"), CONFIGS, ids=[tag for tag, _ in CONFIGS])
def test_the_editor_shows_the_text_we_read(
    annotator: Annotator, editor: Page, tag: str, rows: list[Row]
) -> None:
    project = annotator.create_project(
        tag[:50], NEUTRAL
    )  # imported under the config itself, not all are accepted
    path = f"/api/projects/{project}/import?return_task_ids=true"
    tasks = annotator.call("POST", path, json=[row.data for row in rows])["task_ids"]
    annotator.call("PATCH", f"/api/projects/{project}/", json={"label_config": rows[0].config})
    wanted, seen = [], []
    for task, row in zip(tasks, rows, strict=True):
        editor.goto(f"{annotator.url}/projects/{project}/data?task={task}", wait_until="commit")
        editor.wait_for_selector(
            '.lsf-richtext__iframe, .lsf-richtext__container, [data-testid^="phrase:"], .lsf-errors',
            state="attached",
        )
        shown = str(
            editor.wait_for_function(
                f"() => {{ const found = ({SHOWN})(); return found === null ? null : [found] }}"
            ).json_value()[0]
        )
        seen.append((row.data, " ".join(shown.split())))
        wanted.append((row.data, " ".join((row.shown if row.shown is not None else row.text or "").split())))
    assert seen == wanted
    annotator.call("DELETE", f"/api/projects/{project}/")
