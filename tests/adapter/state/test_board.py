"""Two releases side by side, as during an upgrade: each reads what the other has written in the same format."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from services.adapter.state.board_file import BoardDocument
from services.core import documents
from services.core.domain import Command, LaunchState, RunRequest, RunStatus, Served, Serving
from tests.adapter.metrics.test_exposition import FULL, NOW

ADDED = {
    "ProjectView": {"figures", "hints"},
    "Command": {"traceparent"},
    "RunStatus": {"resident_bytes", "gpu_memory_bytes", "gpu_memory_limit_bytes", "gpu_utilization"},
    "LaunchState": {"pending"},
    "RunRequest": {"traceparent"},
    "Served": {"target_since"},
}
"""Fields that documents did not have in the previous release."""
TABLE = Serving(3, 4, {"5-1": Served("v-3", "v-2", "v-4", 1.0, "Better.", pinned=True, target_since=9.0)})
DOCUMENTS = [BoardDocument((FULL,), NOW, 3), FULL.active, TABLE]


def as_json(document: Any, *, without: bool = False, later: bool = False) -> Any:
    """Return the document as JSON: without new fields, or with fields of a later release in each of its parts."""
    if isinstance(document, tuple | list):
        return [as_json(one, without=without, later=later) for one in document]
    if isinstance(document, dict):
        return {key: as_json(one, without=without, later=later) for key, one in document.items()}
    if not is_dataclass(document):
        return document
    left = ADDED.get(type(document).__name__, set()) if without else set()
    found = {
        one.name: as_json(getattr(document, one.name), without=without, later=later)
        for one in fields(document)
        if one.name not in {*left, "unknown"}
    }
    return {**found, "of_a_release_to_come": {"a": [1]}} if later else found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_board_of_the_previous_release_is_read(document: Any) -> None:
    old = json.dumps(as_json(document, without=True)).encode()
    again = documents.load(type(document), old, "old.json")
    assert as_json(again, without=True) == as_json(document, without=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_unknown_fields_are_ignored(document: Any) -> None:
    newer = json.dumps(as_json(document, later=True)).encode()
    assert documents.load(type(document), newer, "newer.json") == document


@pytest.mark.parametrize("kind", [Command, LaunchState, RunRequest, RunStatus, Served])
def test_new_fields_have_defaults(kind: type[Any]) -> None:
    new = [one for one in fields(kind) if one.name in ADDED[kind.__name__]]
    assert len(new) == len(ADDED[kind.__name__])
    plain = documents.load(kind, _least(kind), "least.json")
    assert [getattr(plain, one.name) for one in new] == [one.default for one in new]


def _least(kind: type[Any]) -> bytes:
    """Return a document with only the fields of every release."""
    least: dict[str, Any] = {"run": "5-1", "state": "running", "project_key": "5-1", "project_id": 5}
    least |= {"id": "a", "action": "train"}
    least |= {"cause": "asked for", "parameters": {}, "created_at": 1.0}
    names = {one.name for one in fields(kind)}
    return json.dumps({name: value for name, value in least.items() if name in names}).encode()
