"""`fitloop suspects`: what is printed of a version's suspect labels, from the API's own answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import respx

from tests.cli.test_report import URL, answer_of
from tests.support import sample_projects
from tests.support.terminal import Terminal


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_URL", URL)
    for name in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    made = await answer_of(tmp_path, sample_projects.INTENTS)
    capsys.readouterr()  # logs
    return made


def answer(found: dict[str, Any]) -> None:
    respx.get(f"{URL}/api/projects/1").respond(
        json={"id": 1, "versions": [{"version": "shop-4", "served": True}]}
    )
    respx.get(f"{URL}/api/projects/1/versions/shop-4/report").respond(json=found)


@respx.mock
def test_suspect_labels_are_listed_with_a_link(terminal: Terminal, found: dict[str, Any]) -> None:
    answer(found)
    code, out, _ = terminal.run("suspects", "1")
    rows = found["suspects"]["rows"]
    assert code == 0
    assert rows
    assert out.startswith(
        f"shop-4: Of 124 evaluated texts, {len(rows)} labels look wrong to models that were not trained on the text."
    )
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("1")]
    assert listed == [str(row["task"]) for row in rows]
    assert "http://localhost:8080/projects/1/data?tab=" in out


@respx.mock
def test_the_order_may_be_by_margin(terminal: Terminal, found: dict[str, Any]) -> None:
    answer(found)
    by_label = json.loads(terminal.run("suspects", "1", "--json")[1])
    assert by_label == {"version": "shop-4", **found["suspects"]}
    margins = [
        row["margin"] for row in json.loads(terminal.run("suspects", "1", "--by-margin", "--json")[1])["rows"]
    ]
    assert margins == sorted((row["margin"] for row in by_label["rows"]), reverse=True)


@respx.mock
def test_an_earlier_version_does_not_say(terminal: Terminal, found: dict[str, Any]) -> None:
    for suspects in (
        {"suspects": {"in_words": "", "url": "", "rows": []}},
        {},
    ):  # {}: an adapter of an earlier release
        answer({name: part for name, part in found.items() if name != "suspects"} | suspects)
        code, out, _ = terminal.run("suspects", "1", "shop-4")
        assert code == 0
        assert out == "shop-4: This version does not say: an earlier release of Fitloop made it.\n"


@respx.mock
def test_the_newest_report_is_taken_whatever_is_served(terminal: Terminal, found: dict[str, Any]) -> None:
    answer(found)
    names = {"shop-7": "zero-shot", "shop-6": "head", "shop-5": "head", "shop-4": "head"}
    respx.get(f"{URL}/api/projects/1").respond(
        json={
            "id": 1,
            "versions": [
                {"version": name, "method": method, "served": name == "shop-4"}
                for name, method in names.items()
            ],
        }
    )
    respx.get(f"{URL}/api/projects/1/versions/shop-6/report").respond(503, json={"detail": "train again"})
    newest = {**found, "summary": {**found["summary"], "version": "shop-5"}}
    respx.get(f"{URL}/api/projects/1/versions/shop-5/report").respond(json=newest)
    code, out, _ = terminal.run("suspects", "1")
    assert code == 0
    assert out.startswith("shop-5: Of ")


@respx.mock
def test_without_any_report_the_first_problem_is_said(terminal: Terminal, found: dict[str, Any]) -> None:
    answer(found)
    respx.get(f"{URL}/api/projects/1/versions/shop-4/report").respond(503, json={"detail": "train again"})
    code, _, err = terminal.run("suspects", "1")
    assert code != 0
    assert "train again" in err


@respx.mock
def test_long_labels_are_cut_in_the_table(terminal: Terminal, found: dict[str, Any]) -> None:
    rows = [{**row, "label": "l" * 80, "prediction": "p" * 80} for row in found["suspects"]["rows"]]
    answer({**found, "suspects": {**found["suspects"], "rows": rows}})
    out = terminal.run("suspects", "1")[1]
    assert f"{'l' * 47}…" in out
    assert "l" * 48 not in out
    assert json.loads(terminal.run("suspects", "1", "--json")[1])["rows"] == rows
