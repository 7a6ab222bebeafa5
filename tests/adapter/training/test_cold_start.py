"""cold_start: when a version is to be made from label names, and never over anything better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.state.project_state import NamesRun, RunRecord
from services.adapter.training.cold_start import (
    ENOUGH_TEXTS,
    ColdStart,
    advice,
    cause,
    fingerprint,
    names_run,
)
from services.core.domain import (
    EMBED,
    LabelSpace,
    LaunchState,
    NamesResult,
    Parameters,
    PoolState,
    Published,
    RunRequest,
    RunState,
    RunStatus,
    Served,
)

SPACE = LabelSpace("mood", "text", "$text", ("good", "bad"), names=("good", "bad"))
NUMBERS = LabelSpace("mood", "text", "$text", ("1", "2"), names=("1", "2"))
SETTINGS = Parameters()
MADE = "shop-label-names-only-1"


def _run(texts: int = 100, *, version: str = MADE, reason: str = "", space: LabelSpace = SPACE) -> NamesRun:
    request = RunRequest(
        "1-embed-1", "1-1", 1, "", SETTINGS, 1.0, kind=EMBED, label_names=fingerprint(space, SETTINGS)
    )
    return NamesRun(RunRecord(request), NamesResult(texts, version, reason))


CONNECTED = ColdStart(is_on=True, served=Served())
SERVING = ColdStart(is_on=True, served=Served(MADE), serves_names=True, last=_run())


def _cause(now: ColdStart, tasks: int = 100, space: LabelSpace = SPACE) -> str:
    return cause(now, space, SETTINGS, tasks, PoolState(tasks, 0, tasks))


def test_connected_project_wants_a_version_once() -> None:
    assert cause(CONNECTED, SPACE, SETTINGS, 100, None) == "there are no suggestions yet"
    assert _cause(SERVING) == ""


def test_control_that_takes_several_labels_wants_another_version() -> None:
    assert fingerprint(replace(SPACE, multiple=True), SETTINGS) != fingerprint(SPACE, SETTINGS)
    assert _cause(SERVING, space=replace(SPACE, multiple=True)) == "the names of the labels have changed"


_SERVED = st.builds(
    Served,
    st.none() | st.just(MADE) | st.just("shop-1"),
    st.none(),
    st.none() | st.just("shop-2"),
    pinned=st.booleans(),
)
_RUNS = st.builds(
    _run,
    st.integers(0, 5000),
    version=st.just(""),
    reason=st.sampled_from(["", "no"]),
    space=st.sampled_from([SPACE, NUMBERS]),
)


@given(_SERVED, st.booleans(), st.none() | _RUNS, st.integers(0, 10_000), st.booleans())
def test_nothing_better_is_ever_replaced(
    served: Served, is_on: bool, last: NamesRun | None, tasks: int, has_names: bool
) -> None:
    serves_names = served.current == MADE
    now = ColdStart(is_on, served, serves_names, last)
    if _cause(now, tasks, SPACE if has_names else NUMBERS):
        assert is_on
        assert has_names
        assert not served.pinned
        assert served.target is None
        assert served.current in {None, MADE}


@given(st.integers(0, 5000), st.integers(0, 20_000))
def test_a_run_is_not_followed_by_another_on_the_same_texts(before: int, tasks: int) -> None:
    """Whatever texts a run has found, the wish is fulfilled once it has ended."""
    wanted = _cause(replace(SERVING, last=_run(before)), tasks)
    done = replace(SERVING, last=_run(min(tasks, ENOUGH_TEXTS)))
    assert _cause(done, tasks) == ""
    assert bool(wanted) == (before < ENOUGH_TEXTS and tasks >= 2 * max(1, before))


def test_imported_texts_are_counted_before_they_are_read() -> None:
    known = PoolState(100, 0, 100)
    assert cause(SERVING, SPACE, SETTINGS, 199, known) == ""
    assert cause(SERVING, SPACE, SETTINGS, 200, known) == "there are 200 texts instead of 100"
    assert cause(SERVING, SPACE, SETTINGS, 250, replace(known, left=60)) == ""


@pytest.mark.parametrize(
    "space",
    [
        replace(SPACE, names=("very good", "bad")),
        replace(SPACE, labels=("good", "bad", "so so"), names=("good", "bad", "so so")),
        replace(SPACE, from_name="tone"),
    ],
)
def test_other_names_want_another_version(space: LabelSpace) -> None:
    assert _cause(SERVING, space=space) == "the names of the labels have changed"
    trained = replace(SERVING, served=Served("shop-1"), serves_names=False)
    assert _cause(trained, space=space) == ""


def test_version_that_is_not_served_is_not_repeated() -> None:
    refused = replace(CONNECTED, last=_run(10))
    assert _cause(refused, 1000) == ""


def test_failed_wish_is_repeated_with_more_texts() -> None:
    empty = replace(CONNECTED, last=_run(0, version="", reason="No task shows a text."))
    assert _cause(empty, 1) == ""
    assert _cause(empty, 2) != ""
    assert advice(empty, SPACE) == "No task shows a text."


def test_advice_says_why_there_are_no_suggestions() -> None:
    assert "'1', '2'" in advice(CONNECTED, NUMBERS)
    assert advice(CONNECTED, SPACE) == ""
    assert advice(replace(CONNECTED, is_on=False), NUMBERS) == ""
    assert advice(replace(CONNECTED, served=Served("shop-1")), NUMBERS) == ""


@pytest.mark.parametrize("change", [{"names": NamesResult(7, MADE)}, {"names": None}])
def test_what_a_run_has_made_is_taken_over(change: dict[str, Any]) -> None:
    request = _run().record.request
    status = RunStatus(request.run, RunState.RUNNING, published=(Published(MADE, True, "Made."),), **change)
    active = names_run(RunRecord(request, LaunchState(request.run), status))
    ended = names_run(RunRecord(request, LaunchState(request.run, (), RunState.DONE), status))
    assert (active is None) == (change["names"] is None)
    assert ended is not None
    assert ended.result.texts == (7 if active else 0)  # a trainer of an earlier release says nothing
    failed = names_run(RunRecord(request, LaunchState(request.run, (), RunState.FAILED), status))
    assert failed == active
    unasked = replace(request, label_names="")
    assert (
        names_run(
            RunRecord(
                unasked, LaunchState(request.run, (), RunState.DONE), RunStatus(request.run, RunState.DONE)
            )
        )
        is None
    )
