"""The label configs of tests/core/labels posted to a real Label Studio: it accepts those that we expect."""

from __future__ import annotations

import httpx
import pytest

from demo.annotator import Annotator
from tests.core.labels.configs import ROWS, Row

pytestmark = pytest.mark.labelstudio


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_label_studio_accepts_a_config(annotator: Annotator, row: Row) -> None:
    body = {"title": row.name[:50], "label_config": row.config}
    answer = annotator.client.post("/api/projects/", json=body)
    assert (answer.status_code == httpx.codes.CREATED) is row.accepted, answer.text
    if row.accepted:
        annotator.call("DELETE", f"/api/projects/{answer.json()['id']}/")
