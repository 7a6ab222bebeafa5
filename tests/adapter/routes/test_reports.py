"""/api/projects/<id>/versions/<version>/report: what programs get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import sample_projects
from tests.support.app import AppWorld

REPORT = "/api/projects/1/versions/shop-2/report"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AppWorld]:
    async with AppWorld(tmp_path) as built:
        made = sample_projects.build_versions("1-1", 2)
        sample_projects.publish_versions(built.registry.store, made)
        built.board.put(sample_projects.build_view(1, "Shop", made))
        yield built


async def test_a_report_comes_with_what_it_comes_to(world: AppWorld) -> None:
    found = (await world.client.get(REPORT)).json()
    assert (found["project"], found["summary"]["version"]) == (1, "shop-2")
    assert found["confusions"][0]["texts"] == found["report"]["confusions"][0]["texts"]
    assert sum(one["answers"] for one in found["calibration"]["bins"]) == found["calibration"]["texts"] == 68
    assert [row["version"] for row in found["curve"]] == ["shop-2", "shop-1"]
    assert found["not_counted_in_words"] == ["2 annotations skipped", "1 task without a text (task 1007)"]


async def test_an_unknown_version_is_not_found(world: AppWorld) -> None:
    assert (await world.client.get(REPORT.replace("shop-2", "shop-9"))).status_code == 404


async def test_a_missing_report_says_what_to_do(world: AppWorld) -> None:
    world.registry.store.delete("projects/1-1/versions/shop-2/report.json")
    answer = await world.client.get(REPORT)
    assert answer.status_code == 503
    assert "train again" in answer.json()["detail"]


async def test_a_report_of_release_0_1_0_has_confusions_and_bins(tmp_path: Path) -> None:
    kept = ("labels", "confusion", "per_label", "wrong", "dropped", "third_opinion", "reliability")
    async with AppWorld(tmp_path) as world:
        made = [
            replace(one, report={name: one.report[name] for name in kept})
            for one in sample_projects.build_versions("1-1", 2)
        ]
        sample_projects.publish_versions(world.registry.store, made)
        world.board.put(sample_projects.build_view(1, "Shop", made))
        found = (await world.client.get(REPORT)).json()
        assert found["confusions"][0]["tasks"]
        assert found["calibration"]
        assert (found["disagreement_in_words"], found["near_duplicates_in_words"]) == ("", "")


async def test_suspect_labels_come_in_words_with_a_link(world: AppWorld) -> None:
    found = (await world.client.get(REPORT)).json()
    rows = found["suspects"]["rows"]
    assert [row["task"] for row in rows] == [row["task_id"] for row in found["report"]["suspects"]["rows"]]
    assert set(rows[0]) == {"task", "label", "prediction", "probability", "other_probability", "margin"}
    assert found["suspects"]["in_words"].startswith(f"Of 68 evaluated texts, {len(rows)} labels look wrong")
    assert "/projects/1/data?tab=" in found["suspects"]["url"]
    page = await world.client.get("/projects/1/versions/shop-2", headers={"Accept": "text/html"})
    assert found["suspects"]["url"] in page.text
    assert f"data?task={rows[0]['task']}" in page.text


async def test_a_project_shows_the_newest_list_whatever_is_served(tmp_path: Path) -> None:
    async with AppWorld(tmp_path) as world:
        made = sample_projects.build_versions("1-1", 3)
        sample_projects.publish_versions(world.registry.store, made)
        world.board.put(sample_projects.build_view(1, "Shop", made[:2]))  # the third is held
        page = (await world.client.get("/projects/1", headers={"Accept": "text/html"})).text
        assert "Evaluation of <bdi>shop-2" in page
        assert 'versions/shop-3#suspects">Labels to check, by <bdi>shop-3' in page
        world.registry.store.delete("projects/1-1/versions/shop-3/report.json")
    async with AppWorld(tmp_path) as world:
        world.board.put(sample_projects.build_view(1, "Shop", made[:2]))
        page = (await world.client.get("/projects/1", headers={"Accept": "text/html"})).text
        assert 'versions/shop-2#suspects">Labels to check, by <bdi>shop-2' in page


async def test_a_report_of_an_earlier_release_names_no_suspects(tmp_path: Path) -> None:
    async with AppWorld(tmp_path) as world:
        made = [
            replace(one, report={name: part for name, part in one.report.items() if name != "suspects"})
            for one in sample_projects.build_versions("1-1", 2)
        ]
        sample_projects.publish_versions(world.registry.store, made)
        world.board.put(sample_projects.build_view(1, "Shop", made))
        assert (await world.client.get(REPORT)).json()["suspects"] == {
            "in_words": "",
            "advice": "",
            "url": "",
            "rows": [],
        }
        page = await world.client.get("/projects/1/versions/shop-2", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "Labels to check" not in page.text
