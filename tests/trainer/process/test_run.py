"""Where a run is, what it was asked, and what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Method, Snapshot
from services.core.errors import BadConfig, BadRequest
from services.core.labels import signature
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.trainer.data import as_before
from services.trainer.process import methods_of, parse_run_url, read_request

STATES = st.dictionaries(st.integers(1, 20), st.integers(0, 3), max_size=20)


def tasks_of(states: dict[int, int]) -> list[dict[str, object]]:
    return [
        {"id": task, "annotations": [{"id": task, "updated_at": f"at {state}", "result": [{}]}]}
        for task, state in states.items()
    ]


def test_the_store_is_all_before_runs(tmp_path: Path) -> None:
    store, name = parse_run_url(f"{tmp_path.as_uri()}/runs/x/runs/5-1")
    assert name == "5-1"
    assert store.url == f"{tmp_path.as_uri()}/runs/x"


@pytest.mark.parametrize(
    "url", ["file:///data", "5-1", "file:///data/runs/", "file:///data/runs/5-1/status.json"]
)
def test_other_addresses_name_no_run(url: str) -> None:
    with pytest.raises(BadRequest, match="does not name a run"):
        parse_run_url(url)


def test_a_store_of_another_kind_is_a_wrong_setting() -> None:
    with pytest.raises(BadConfig):
        parse_run_url("ftp://data/runs/5-1")


def test_a_run_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="request.json is missing"):
        read_request(Runs(FileStore(tmp_path)), "5-1")


def test_auto_is_the_probe_and_then_the_fine_tune_that_starts_from_it() -> None:
    assert methods_of(Method.AUTO) == (Method.LINEAR_PROBE, Method.LP_FT)
    assert methods_of(Method.FINETUNE) == (Method.FINETUNE,)


@given(STATES, STATES)
def test_a_resumed_run_reads_what_it_had_read_or_else_everything(
    before: dict[int, int], now: dict[int, int]
) -> None:
    marks = {str(task["id"]): signature(task["annotations"]) or "" for task in tasks_of(before)}  # type: ignore[arg-type]
    found = as_before(tasks_of(now), Snapshot(marks, "h", ("A",), 1.0))
    unchanged = all(now.get(task) == state for task, state in before.items())
    assert {task["id"] for task in found} == (before.keys() if unchanged else now.keys())
