"""GET / and /metrics: JSON for programs, a page for browsers, figures for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.adapter import metrics
from services.adapter.pages import prefers_html
from services.core.domain import RunState, RunStatus, Served
from services.core.errors import StoreError
from tests.support.app import AppWorld
from tests.support.manifests import build_manifest
from tests.support.metrics import metric_value

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "TEXT/HTML;q=0.9, application/json;q=0.1"])
def test_a_browser_prefers_html(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "application/json, text/html;q=0.5",
        "text/html;q=x",
        "text/html;q=0",
        "application/json,text/html",
    ],
)
def test_label_studio_and_other_programs_do_not(accept: str) -> None:
    assert not prefers_html(accept)


async def test_a_program_gets_json(world: AppWorld) -> None:
    world.serve("v-3")
    answer = await world.client.get("/", headers={"Accept": "*/*"})
    found = answer.json()
    assert (found["status"], found["model_class"], found["ready"]) == ("UP", "Fitloop", True)
    assert found["projects"] == [{"id": 5, "served": "v-3"}]


async def test_the_index_shows_status_problem_and_accuracy_escaped(world: AppWorld, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    view = world.serve(
        served=Served("v-2", "v-1", pinned=True),
        sentence="waiting: 6 of 10 <b>labels</b> changed",
        problem="Label Studio does not answer.",
        active=RunStatus("5-3", RunState.RUNNING, stage="fit", step=3, steps=10),
        paused=True,
    )
    for version in ("v-1", "v-2"):
        world.registry.publish(tmp_path / "made", build_manifest(version, view.project.key))
    answer = await world.client.get("/", headers={"Accept": BROWSER})
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    assert "Reviews &lt;1&gt;" in page
    assert "6 of 10 &lt;b&gt;labels&lt;/b&gt; changed; paused" in page
    assert "Label Studio does not answer." in page
    assert '<progress value="3" max="10"' in page
    assert "75 % (60–86)" in page
    assert "is expected to get right" in page
    assert ">pinned<" in page


async def test_the_page_of_nothing_says_what_to_do(world: AppWorld) -> None:
    assert "No projects yet" in (await world.client.get("/", headers={"Accept": BROWSER})).text


async def test_the_page_is_there_before_the_state_is_read(tmp_path: Path) -> None:
    async with AppWorld(tmp_path, ready=False) as world:
        answer = await world.client.get("/", headers={"Accept": BROWSER})
        assert answer.status_code == 200
        assert "still reading its state" in answer.text
        assert "No projects yet" not in answer.text


async def test_the_pages_show_what_is_known_though_the_store_fails(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(sentence="waiting for labels")

    def broken(*_: object) -> object:
        raise StoreError("The disk is gone.")

    monkeypatch.setattr("services.core.store.files.FileStore.read", broken)
    monkeypatch.setattr("services.core.store.files.FileStore.folders", broken)
    assert "Waiting for labels" in (await world.client.get("/", headers={"Accept": BROWSER})).text
    page = (await world.client.get("/projects/5", headers={"Accept": BROWSER})).text
    assert "The disk is gone." in page
    assert "Waiting for labels" in page


async def test_every_figure_exists_from_the_start(world: AppWorld) -> None:
    text = (await world.client.get("/metrics")).text
    for action in metrics.EVENT_ACTIONS:
        assert f'fitloop_webhook_events_total{{action="{action}",outcome="noted"}}' in text
    for outcome in metrics.PredictionOutcome:
        assert f'fitloop_predictions_total{{outcome="{outcome}"}}' in text
    for route in metrics.ROUTES:
        assert f'fitloop_request_seconds_count{{route="{route}"}}' in text


async def test_each_answer_is_counted_with_its_time(world: AppWorld) -> None:
    seconds = metric_value("fitloop_request_seconds_count", route="/health")
    failed = metric_value("fitloop_responses_total", route="/setup", status="4xx")
    await world.client.get("/health")
    await world.client.post("/setup", content=b"x")
    assert metric_value("fitloop_request_seconds_count", route="/health") == seconds + 1
    assert metric_value("fitloop_responses_total", route="/setup", status="4xx") == failed + 1
