"""The benchmark of many projects, with few: that it measures everything, not how fast it is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench.result import Result
from bench.scale import result
from bench.scale.content import Content
from bench.scale.page import with_figures
from bench.scale.phases import Plan, measure
from bench.scale.plot import draw
from bench.scale.report import missed

SIZE = Plan(Content(2, 3, 60), 0.0, 0.0, window=0.5, limit=10.0, takeover=20.0, states=("healthy", "failing"))


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return measure(SIZE).figures


@pytest.fixture(scope="module")
def whole(figures: dict[str, Any]) -> Result:
    return result({"1": figures, "500": figures})


def test_commands_are_carried_out_in_every_state(figures: dict[str, Any]) -> None:
    for state, commands in (("healthy", 2), ("failing", 2), ("one project hangs", 1)):
        assert figures[f"commands, {state}"]["count"] == commands
        assert math.isfinite(figures[f"commands, {state}"]["most"])


def test_both_takeovers_complete(figures: dict[str, Any]) -> None:
    for name in ("takeover of 0.1.0", "takeover"):
        assert math.isfinite(figures[f"{name}: command"])
        assert math.isfinite(figures[f"{name}: complete"])


def test_an_event_leads_to_a_run(figures: dict[str, Any]) -> None:
    assert figures["event to run requested"]["count"] == 2
    assert math.isfinite(figures["event to run requested"]["most"])


def test_the_table_has_a_column_for_each_size(whole: Result) -> None:
    assert whole.rows[0] == ("measure", "1 projects", "500 projects")
    assert all(len(row) == 3 for row in whole.rows)
    assert any("command, Label Studio answering 500" in row[0] for row in whole.rows)


def test_a_lost_command_misses_its_goal(figures: dict[str, Any]) -> None:
    lost = {**figures, "commands, healthy": {"count": 1, "p50": math.inf, "p99": math.inf, "most": math.inf}}
    assert "commands" in missed(lost)


def test_the_plot_names_its_goals(whole: Result) -> None:
    drawn = draw({"1": whole.figures["1"], "50": whole.figures["1"], "500": whole.figures["500"]})
    assert drawn.startswith("<svg")
    assert "goal" in drawn


def test_the_page_keeps_the_text_around_the_figures(whole: Result) -> None:
    page = with_figures("before\n<!-- figures -->\nEarlier figures.\n<!-- /figures -->\nafter\n", whole)
    assert page.startswith("before\n<!-- figures -->\n")
    assert page.endswith("<!-- /figures -->\nafter\n")
    assert "Earlier figures." not in page
