"""core.documents: what was written comes back, with unknown fields; newer and broken documents are refused with a sentence."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.state.documents import Connection, PromotionResult, VersionOutcome
from services.adapter.state.project_state import ProjectState, RunRecord
from services.core import documents
from services.core.domain import (
    Attempt,
    LaunchState,
    Manifest,
    Parameters,
    Published,
    RunRequest,
    RunState,
    RunStatus,
    Served,
    Serving,
)
from services.core.errors import StoreError, UnknownFormat
from services.core.notices import ChangeNotice
from tests.support.manifests import build_manifest

T = TypeVar("T")


def test_a_document_comes_back_as_it_was() -> None:
    written = documents.dump(build_manifest("v-1"))
    assert documents.load(Manifest, written, "manifest.json") == build_manifest("v-1")
    assert json.loads(written) == documents.to_plain(build_manifest("v-1"))


def test_a_document_without_later_fields_is_read() -> None:
    assert documents.load(Serving, b"{}", "serving.json") == Serving()


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(UnknownFormat, match=r"serving.json has format 2.*upgrade"):
        documents.load(Serving, b'{"format": 2}', "serving.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"term": "x"}', b"\xff\xfe"])
def test_a_broken_document_is_a_store_error(data: bytes) -> None:
    with pytest.raises(StoreError, match="serving.json is not a readable Serving"):
        documents.load(Serving, data, "serving.json")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def extra_fields(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    known = {field.name for field in fields(kind)} - {"unknown"}
    names = st.text() | st.sampled_from(["unknown", "color", "Term"])
    return st.dictionaries(names.filter(lambda name: name not in known), JSON, max_size=3)


ROWS = st.builds(
    lambda current, extra: {"current": current, "pinned": True, **extra}, st.text(), extra_fields(Served)
)


def loaded(kind: type[T], plain: dict[str, Any]) -> T:
    return documents.load(kind, json.dumps(plain).encode(), "key")


def dumped(document: object) -> dict[str, Any]:
    found = json.loads(documents.dump(document))
    assert documents.to_plain(document) == found
    return dict(found)


@given(st.dictionaries(st.text(), ROWS, max_size=4), extra_fields(Serving), st.data())
def test_unknown_fields_of_a_serving_table_survive(
    rows: dict[str, dict[str, Any]], extra: dict[str, Any], data: st.DataObject
) -> None:
    table = loaded(Serving, {"term": 1, "projects": rows, **extra})
    removed = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set[str]()
    kept = {
        key: replace(row, current="new", pinned=False)
        for key, row in table.projects.items()
        if key not in removed
    }
    table = replace(table, term=2, projects={**kept, "added": Served("v-1")})
    again = dumped(loaded(Serving, dumped(table)))
    expected_rows = {
        key: {**row, **documents.to_plain(Served("new"))} for key, row in rows.items() if key not in removed
    }
    expected_rows["added"] = documents.to_plain(Served("v-1"))
    assert again == {**documents.to_plain(Serving(2)), **extra, "projects": expected_rows}


@given(extra_fields(Connection))
def test_unknown_fields_of_a_connection_survive(extra: dict[str, Any]) -> None:
    connection = loaded(Connection, {"overrides": {"method": "finetune"}, **extra})
    changed = replace(connection, paused=True, overrides={})
    assert dumped(changed) == {**documents.to_plain(Connection(paused=True)), **extra}
    assert connection == Connection({"method": "finetune"}), "documents are compared by what is known"


@given(extra_fields(LaunchState), extra_fields(Attempt))
def test_unknown_fields_of_a_launch_and_its_attempts_survive(
    extra: dict[str, Any], of_attempt: dict[str, Any]
) -> None:
    attempt = {"number": 1, "started_at": 5.0, **of_attempt}
    launch = loaded(LaunchState, {"run": "1-1", "attempts": [attempt], **extra})
    actual = dumped(replace(launch, outcome=RunState.DONE))
    assert actual == {**actual, **extra, "outcome": "done"}
    assert actual["attempts"] == [{**attempt, "ended_at": None, "exit_code": None}]


def test_unknown_fields_of_a_runs_record_survive() -> None:
    plain = documents.to_plain(
        ProjectState(
            (RunRecord(RunRequest("1-1", "1-1", 1, "labels", Parameters(), 1.0), LaunchState("1-1"), RunStatus("1-1", RunState.DONE, published=(Published("v-1", True, ""),))),),
            (VersionOutcome("v-1", PromotionResult.PROMOTED, "", 1.0),),
        )
    )  # fmt: skip
    run = plain["runs"][0]
    for part in (
        plain,
        run,
        run["request"],
        run["status"],
        run["status"]["published"][0],
        plain["outcomes"][0],
    ):
        part["color"] = "red"
    state = loaded(ProjectState, plain)
    assert dumped(replace(state, last_run=2)) == {**plain, "last_run": 2}


def test_a_change_notice_keeps_the_unknown_fields_of_both() -> None:
    first = loaded(ChangeNotice, {"project_id": 1, "a": 1, "b": 1})
    later = loaded(ChangeNotice, {"project_id": 1, "b": 2, "c": [3]})
    assert first.merge(later).unknown == {"a": 1, "b": 2, "c": [3]}
