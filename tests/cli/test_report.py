"""`fitloop report`: what is printed of a report, from the API's own answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import respx

from services.cli.report import report_sections
from tests.support import sample_projects
from tests.support.app import AppWorld
from tests.support.terminal import Terminal

URL = "http://fitloop.test:9090"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_URL", URL)
    for name in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def found(tmp_path: Path) -> dict[str, Any]:
    """Return the API's answer for a version of a shop."""
    return await answer_of(tmp_path, sample_projects.INTENTS)


async def answer_of(folder: Path, labels: tuple[str, ...]) -> dict[str, Any]:
    async with AppWorld(folder) as world:
        made = sample_projects.build_versions("1-1", 4, labels)
        sample_projects.publish_versions(world.registry.store, made)
        world.board.put(sample_projects.build_view(1, "Shop", made))
        response = await world.client.get("/api/projects/1/versions/shop-4/report")
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        return answer


def test_a_report_has_all_its_parts(found: dict[str, Any]) -> None:
    titles = [section.partition("\n")[0] for section in report_sections(found)]
    assert titles == [
        "shop-4 of project 1, Shop",
        "Learning curve",
        "Largest confusions",
        "Labels",
        "Reliability",
        "Texts",
        "Annotators",
        "Not trained on",
        "Tasks open at http://localhost:8080/projects/1/data?task=<task>",
    ]


def test_an_earlier_release_has_one_accuracy(found: dict[str, Any]) -> None:
    first = next(report_sections(found)).splitlines()[1]
    assert first == "Accuracy: about 72 % (±5). Cross-validated: 64 % (55–72)."
    old = {
        **found,
        "summary": {
            **found["summary"],
            "expected": None,
            "accuracy_in_words": "Accuracy: 64 % (55–72), cross-validated.",
        },
    }
    assert next(report_sections(old)).splitlines()[1] == "Accuracy: 64 % (55–72), cross-validated."


def test_the_learning_curve_has_both_figures(found: dict[str, Any]) -> None:
    (section,) = [one for one in report_sections(found) if one.startswith("Learning curve")]
    _, head, newest, *_, oldest = section.splitlines()
    assert head.split() == ["VERSION", "TEXTS", "EXPECTED", "CROSS-VALIDATED", "GATE"]
    assert newest.startswith("shop-4")
    assert "about 72 % (±5)" in newest
    assert newest.endswith("served")
    assert "32 % (20–48)" in oldest


def test_confusions_name_tasks(found: dict[str, Any]) -> None:
    (section,) = [one for one in report_sections(found) if one.startswith("Largest confusions")]
    _, head, first, *_ = section.splitlines()
    assert head.split() == ["LABEL", "PREDICTED", "AS", "TEXTS", "EXAMPLES"]
    pair = found["confusions"][0]
    assert first.startswith(pair["true"])
    assert first.endswith(", ".join(map(str, pair["tasks"])))
    assert f"{pair['texts']} of {pair['judged']}" in first


async def test_many_long_labels_are_cut(tmp_path: Path) -> None:
    labels = tuple(f"{number} {'שלום ' * 200}" for number in range(150))
    text = "\n\n".join(report_sections(await answer_of(tmp_path, labels)))
    assert max(map(len, text.splitlines())) < 300
    assert len(text.splitlines()) < 120


def test_a_report_of_an_earlier_release_has_fewer_parts(found: dict[str, Any]) -> None:
    kept = ("labels", "confusion", "per_label", "wrong", "dropped", "third_opinion")
    old = {**found, "report": {name: found["report"][name] for name in kept}, "calibration": None}
    old.update(cut_in_words="", near_duplicates_in_words="", disagreement_in_words="")
    titles = [section.partition("\n")[0] for section in report_sections(old)]
    assert "Reliability" not in titles
    assert "Annotators" not in titles
    assert "Labels" in titles


@respx.mock
def test_the_served_version_is_the_default(terminal: Terminal, found: dict[str, Any]) -> None:
    versions = [{"version": "shop-5"}, {"version": "shop-4", "served": True}]
    respx.get(f"{URL}/api/projects/1").respond(json={"id": 1, "versions": versions})
    respx.get(f"{URL}/api/projects/1/versions/shop-4/report").respond(json=found)
    code, out, _ = terminal.run("report", "1")
    assert code == 0
    assert "shop-4 of project 1, Shop\n" in out
    assert json.loads(terminal.run("report", "1", "shop-4", "--json")[1]) == found


@respx.mock
def test_a_project_without_versions_has_no_report(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects/1").respond(json={"id": 1, "versions": []})
    code, _, err = terminal.run("report", "1")
    assert code == 1
    assert "has no version yet" in err


@respx.mock
def test_a_version_name_is_quoted(terminal: Terminal, found: dict[str, Any]) -> None:
    route = respx.get(f"{URL}/api/projects/1/versions/a%2Fb/report").respond(json=found)
    assert terminal.run("report", "1", "a/b")[0] == 0
    assert route.called
