"""The pages as they are rendered: what stands in them, that nothing in them can do harm, and that they come quickly."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import lxml.html
import pytest

from services.adapter.state.board import Agreement, CurrentVersion
from services.adapter.state.documents import ProjectDocuments, PromotionResult, VersionOutcome
from services.adapter.state.help import HelpMeasures
from services.core.domain import (
    NOT_EVALUATED,
    Estimate,
    ExpectedAccuracy,
    Forecast,
    GateDecision,
    Outlook,
    OwnModel,
    RunState,
    RunStatus,
    Uncounted,
)
from services.core.settings import AuthSettings, LabelStudioSettings, Settings
from tests.support import sample_projects
from tests.support.app import AppWorld

HTML = {"Accept": "text/html"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AppWorld]:
    """With a password, which the client sends."""
    auth = AuthSettings(username="ann", password="secret", path_prefix="/fitloop")
    async with AppWorld(tmp_path, auth) as built:
        built.client.auth = ("ann", "secret")
        built.client.headers.update(HTML)
        yield built


def hang(world: AppWorld, number: int = 1, title: str = "Shop", count: int = 4, **changes: Any) -> None:
    """A project with versions."""
    made = sample_projects.build_versions(f"{number}-{number}", count)
    sample_projects.publish_versions(world.registry.store, made)
    world.board.put(sample_projects.build_view(number, title, made, **changes))


async def page_of(world: AppWorld, path: str) -> Any:
    """The document of that path."""
    answer = await world.client.get(path)
    assert answer.status_code == 200, answer.text
    return lxml.html.fromstring(answer.text)


def text_of(element: Any) -> str:
    """What a person reads of it."""
    return " ".join(element.text_content().split())


async def test_problems_come_first_then_active_runs(world: AppWorld) -> None:
    hang(world, 1, "Quiet", 0)
    hang(world, 2, "Busy", 0, active=sample_projects.build_run_status(2))
    hang(world, 3, "Troubled", 0, problem="Label Studio refuses the token: make a new one.")
    titles = [text_of(link) for link in (await page_of(world, "/")).xpath("//li//h2/a")]
    assert titles == ["Troubled", "Busy", "Quiet"]


async def test_without_projects_a_password_needs_the_secret_path(world: AppWorld, tmp_path: Path) -> None:
    assert "FITLOOP_SECRET_PATH" in text_of((await page_of(world, "/")).xpath("//div[@id='projects']")[0])
    async with AppWorld(tmp_path / "open") as without:
        without.client.headers.update(HTML)
        projects = (await page_of(without, "/")).xpath("//div[@id='projects']")[0]
        assert "No projects yet" in text_of(projects)
        assert "FITLOOP_SECRET_PATH" not in text_of(projects)


async def test_forty_projects_are_listed(world: AppWorld) -> None:
    for number in range(1, 41):
        hang(world, number, f"Project {number}", 1)
    page = await page_of(world, "/")
    assert len(page.xpath("//li[contains(@class, 'card')]")) == 40


async def test_a_project_page_has_all_sections(world: AppWorld) -> None:
    hang(world, 1, "Shop", 4)
    page = await page_of(world, "/projects/1")
    assert len(page.xpath("//svg//circle")) == 4
    assert len(page.xpath("//svg//rect")) == 2
    assert "4 versions" in page.xpath("string(//desc)")
    assert page.xpath("//svg/@role") == ["img"]
    rows = page.xpath("//table[contains(@class, 'versions')]/tbody/tr")
    assert [row.xpath("string(th/a)") for row in rows] == ["shop-4", "shop-3", "shop-2", "shop-1"]
    assert "current" in text_of(rows[0])
    assert "Held:" in text_of(rows[1])
    assert "previous" in text_of(rows[2])
    assert "compared with shop-2" in text_of(rows[0])
    assert page.xpath("string(//table[@class='matrix']/tbody/tr[1]/th)") == "1 Cancel order"
    assert "Refund" in text_of(page.xpath("//div[@id='labels-table']")[0])
    assert "too low" in text_of(page)
    assert "http://localhost:8080/projects/1/data" in page.xpath("//a/@href")


async def test_a_project_page_lists_what_does_not_count(
    world: AppWorld,
) -> None:
    found = (
        Uncounted("foreign_label", 2, ('"<b>Shipping</b>"',)),
        Uncounted("cancelled", 1),
        Uncounted("no_text", 1),
    )
    hang(world, 1, "Shop", 1, not_counted=found)
    part = (await page_of(world, "/projects/1")).get_element_by_id("not-counted")
    assert [text_of(item) for item in part.iter("li")] == [
        '2 annotations with a label that <Choices name="intent"> does not have ("<b>Shipping</b>")',
        "1 annotation skipped",
        "1 task without a text",
    ]
    version = await page_of(world, "/projects/1/versions/shop-1")
    assert "2 annotations skipped" in text_of(version)


async def test_a_version_page_links_fixed_and_broken_tasks(
    tmp_path: Path,
) -> None:
    async with AppWorld(tmp_path) as world:
        world.client.headers.update(HTML)
        hang(world, 1, "Shop", 4)
        page = await page_of(world, "/projects/1/versions/shop-3")
        broken = page.xpath("//section[@id='changed']//table//a")
        assert broken
        assert all(
            re.fullmatch(r"http://localhost:8080/projects/1/data\?task=\d+", link.get("href"))
            for link in broken
        )
        assert "19 broken" in text_of(page.xpath("//section[@id='changed']")[0])
        assert "cross-validation" in text_of(page)
        assert "third opinion" in text_of(page)
        assert "2 annotations skipped" in text_of(page)
        assert "linear-probe" in text_of(page)


async def test_a_version_page_has_the_whole_report(world: AppWorld) -> None:
    hang(world, 1, "Shop", 4)
    page = await page_of(world, "/projects/1/versions/shop-4")
    pairs = page.xpath("//table[@class='pairs']//tbody/tr")
    first = pairs[0].xpath("td[3]/a/@href")
    assert len(first) == 2
    assert all(link.startswith("http://localhost:8080/projects/1/data?task=") for link in first)
    assert len(page.xpath("//svg[contains(@class, 'reliability')]//circle")) >= 2
    answers = page.xpath("//div[@id='reliability-table']//td[1]/text()")
    assert sum(map(int, answers)) == 124
    text = text_of(page)
    for part in (
        "4 of 124 texts were truncated",
        "1 of 4 are answered correctly",
        "nearly equal",
        "Annotators agree on 31 of 40",
    ):
        assert part in text
    assert page.xpath("//table[@class='tasks']//strong")
    assert "1 task without a text: task 1007" in text


async def test_a_report_of_release_0_1_0_is_shown(world: AppWorld) -> None:
    kept = (
        "labels",
        "confusion",
        "per_label",
        "wrong",
        "dropped",
        "third_opinion",
        "reliability",
        "expected_calibration_error",
    )
    made = [
        replace(
            one,
            report={name: one.report[name] for name in kept},
            manifest=replace(one.manifest, truncation=None),
        )
        for one in sample_projects.build_versions("1-1", 2)
    ]
    sample_projects.publish_versions(world.registry.store, made)
    world.board.put(sample_projects.build_view(1, "Shop", made))
    page = await page_of(world, "/projects/1/versions/shop-2")
    assert page.xpath("//table[@class='pairs']//td[3]/a")
    assert page.xpath("//svg[contains(@class, 'reliability')]")
    assert not page.xpath("//*[@id='texts-heading' or @id='annotators-heading']")


async def test_a_page_of_150_long_labels_stays_short(world: AppWorld) -> None:
    labels = tuple(f"{number} {'שלום ' * 200}" for number in range(150))
    made = sample_projects.build_versions("1-1", 12, labels)
    sample_projects.publish_versions(world.registry.store, made)
    world.board.put(sample_projects.build_view(1, "Shop", made))
    page = await page_of(world, "/projects/1/versions/shop-12")
    assert len(page.xpath("//details[@id='all-labels']//tbody/tr")) == 150
    shown = page.xpath("//tbody/tr[not(ancestor::details)]")
    assert len(shown) < 150
    assert all(one.get("title") for one in page.xpath("//tbody//bdi[string-length() > 80]"))


async def test_links_go_where_browsers_reach_label_studio(tmp_path: Path) -> None:
    settings = Settings(
        label_studio=LabelStudioSettings(url="http://ls:8080", public_url="https://labels.test/")
    )
    async with AppWorld(tmp_path, settings=settings) as world:
        world.client.headers.update(HTML)
        hang(world, 1, "Shop", 1)
        assert "https://labels.test/projects/1/data" in (await page_of(world, "/projects/1")).xpath(
            "//a/@href"
        )


async def test_changes_of_an_earlier_releases_version_are_unknown(world: AppWorld) -> None:
    made = [
        replace(one, report={**one.report, "changed": None})
        for one in sample_projects.build_versions("1-1", 2)
    ]
    sample_projects.publish_versions(world.registry.store, made)
    world.board.put(sample_projects.build_view(1, "Shop", made))
    assert "an earlier release" in text_of(await page_of(world, "/projects/1/versions/shop-2"))


async def test_a_version_without_a_report_is_shown_all_the_same(world: AppWorld) -> None:
    hang(world, 1, "Shop", 1)
    world.registry.store.delete("projects/1-1/versions/shop-1/report.json")
    page = text_of(await page_of(world, "/projects/1"))
    assert "Cannot show the report of shop-1" in page
    assert "train again" in page


async def test_an_outcome_is_shown_beside_the_gate_decision(world: AppWorld) -> None:
    hang(world, 1, "Shop", 1)
    verdict = VersionOutcome("shop-1", PromotionResult.REFUSED, "shop-1 was refused: its file differs.", 1.0)
    ProjectDocuments(world.registry.store, "1-1").write_outcome(verdict)
    assert "Refused: shop-1 was refused" in text_of(await page_of(world, "/projects/1"))


async def test_a_run_is_shown_with_its_progress_and_log(world: AppWorld) -> None:
    run = sample_projects.build_run_status(1)
    hang(world, 1, "Shop", 2, active=run, sentence="training shop-9: fine-tuning, step 30 of 120, 40 s left")
    world.registry.store.write("runs/1-9/log.txt", b"first\nlast <line>\n")
    page = await page_of(world, "/projects/1")
    assert "40 s left" in text_of(page.xpath("//section[@id='state']")[0])
    assert page.xpath("//progress/@value") == ["30"]
    assert page.xpath("string(//pre)") == "first\nlast <line>"
    assert page.xpath("//details[@open]")
    assert page.xpath("//noscript/meta[@http-equiv='refresh']")
    assert page.body.get("data-pace") == "2"


async def test_a_failed_run_shows_its_reason(world: AppWorld) -> None:
    last = RunStatus("1-2", RunState.FAILED, "judging", message="The disk was full.", exit_code=1, attempt=2)
    hang(world, 1, "Shop", 0, last=last)
    page = await page_of(world, "/projects/1")
    assert "Failed, attempt 2, exit code 1. The disk was full." in text_of(
        page.xpath("//section[@id='run']")[0]
    )
    assert not page.xpath("//meta[@http-equiv='refresh']")


async def test_advice_and_agreement_are_shown(world: AppWorld) -> None:
    view = sample_projects.build_view(1, "Shop", hints=("Its host has one word.",))
    world.board.put(replace(view, figures=replace(view.figures, agreement=Agreement(41, 50))))
    page = text_of(await page_of(world, "/projects/1"))
    assert "Its host has one word." in page
    assert "agreed with the suggestion on 41 of the last 50" in page
    assert "biased upwards" in page


async def test_help_to_annotators_and_forecast_are_shown(world: AppWorld) -> None:
    hang(world, 1, "Shop", 3)
    view = world.board.views[1]
    current = CurrentVersion(
        "v-3", "linear-probe", "encoder", Estimate(40, 30, 0.6, 0.86, 0.7, "cross-fit"), 900.0
    )
    forecast = Outlook(300, 0.8, Forecast(600, 0.81, 0.86), 3, 4)
    figures = replace(
        view.figures,
        current=replace(current, outlook=forecast),
        help=HelpMeasures(0.05, blind=3, timed_blind=2),
    )
    world.board.put(replace(view, figures=figures))
    page = text_of(await page_of(world, "/projects/1"))
    assert "Twice as many labels (600): about +1 to +6 points. Of 4 earlier forecasts, 3 held." in page
    assert "cannot be said yet: 2 of 20 annotations without a suggestion" in page
    rows = (await world.client.get("/api/projects")).json()["projects"]
    assert rows[0]["forecast_in_words"].startswith("Twice as many labels (600)")


async def test_a_project_page_lists_25_versions_or_all(world: AppWorld) -> None:
    hang(world, 1, "Shop", 30)
    assert (
        len((await page_of(world, "/projects/1")).xpath("//table[contains(@class, 'versions')]/tbody/tr"))
        == 25
    )
    page = await page_of(world, "/projects/1?all=1")
    assert len(page.xpath("//table[contains(@class, 'versions')]/tbody/tr")) == 30


async def test_a_project_without_versions_says_so(world: AppWorld) -> None:
    world.board.put(sample_projects.build_view(1, ""))
    page = text_of(await page_of(world, "/projects/1"))
    assert "Untitled" in page
    assert "No versions yet." in page


async def test_too_few_evaluated_texts_have_no_accuracy(world: AppWorld) -> None:
    made = sample_projects.build_versions("1-1", 1)
    few = replace(made[0].manifest, estimate=replace(made[0].manifest.estimate, judged=12, right=9))
    sample_projects.publish_versions(world.registry.store, [replace(made[0], manifest=few)])
    world.board.put(sample_projects.build_view(1, "Shop", made))
    page = text_of(await page_of(world, "/projects/1"))
    assert "too few labels to say" in page
    assert "75 %" not in page


async def test_a_class_of_the_users_shows_its_smoke_test(world: AppWorld) -> None:
    made = sample_projects.build_versions("1-1", 2)
    own = OwnModel("boxes.model:Boxes", 1.0, {"map": 0.53}, 20, 18, {"label": 2}, 0.012)
    gate = GateDecision(True, "not-evaluated", ("Promoted: not evaluated.",), "shop-1")
    manifest = replace(
        made[1].manifest,
        own_model=own,
        estimate=NOT_EVALUATED,
        gate=gate,
        expected=ExpectedAccuracy(None, reason="not evaluated; `fit` reported map 0.53"),
        labels=(),
    )
    sample_projects.publish_versions(world.registry.store, [made[0], replace(made[1], manifest=manifest)])
    world.board.put(sample_projects.build_view(1, "Shop", made))
    page = text_of(await page_of(world, "/projects/1/versions/shop-2"))
    assert "Accuracy: not evaluated" in page
    assert "18 of 20 tasks with a prediction, 12 ms each; dropped: 2 label" in page
    assert "0.53, as fit reported it" in page
    assert "It was not compared with shop-1, which it replaces" in page
    assert "nothing: it was not evaluated" in page
    row = text_of(await page_of(world, "/projects/1"))
    assert "annotated tasks, boxes.model:Boxes" in row


@pytest.mark.parametrize(
    "path", ["/", "/projects/2", "/projects/2/versions/shop-3", "/projects/2/promote?version=shop-3"]
)
async def test_hostile_names_are_escaped_and_scripts_are_blocked(world: AppWorld, path: str) -> None:
    labels = (sample_projects.HOSTILE, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "'--", "ok")
    made = sample_projects.build_versions("2-2", 3, labels)
    sample_projects.publish_versions(world.registry.store, made)
    hint = f"{sample_projects.HOSTILE} <b>"
    world.board.put(
        sample_projects.build_view(
            2,
            sample_projects.HOSTILE,
            made,
            problem=hint,
            sentence=hint,
            hints=(hint,),
            active=sample_projects.build_run_status(2),
        )
    )
    answer = await world.client.get(path)
    page = lxml.html.fromstring(answer.text)
    assert sample_projects.HOSTILE in page.text_content()
    policy = answer.headers["content-security-policy"]
    for tag in ("script", "style"):
        for element in page.xpath(f"//{tag}"):
            digest = base64.b64encode(hashlib.sha256((element.text or "").encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not page.xpath("//@style | //img | //@*[starts-with(name(), 'on')]")
    assert "49" not in page.xpath("string(//div[@id='labels-table'])")


@pytest.mark.parametrize("path", ["/", "/projects/1", "/projects/1/versions/shop-2", "/projects/1/train"])
async def test_pages_are_accessible(world: AppWorld, path: str) -> None:
    hang(world, 1, "Shop", 3, active=sample_projects.build_run_status(1), problem="Something is wrong.")
    page = await page_of(world, path)
    assert page.get("lang") == "en"
    assert len(page.xpath("//h1")) == 1
    assert len(page.xpath("//main")) == 1
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    for reference in page.xpath("//@aria-labelledby"):
        assert set(reference.split()) <= set(ids)
    assert all(table.xpath("thead//th[@scope='col']") for table in page.xpath("//table"))
    assert all(row.xpath("th[@scope='row']") for row in page.xpath("//tbody/tr"))
    for element in page.xpath("//progress | //meter | //*[@role='region'] | //nav"):
        assert element.get("aria-label") or element.get("aria-labelledby")
    assert all(text_of(link) for link in page.xpath("//a | //button"))
    levels = [int(heading.tag[1]) for heading in page.xpath("//h1 | //h2 | //h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/", "./"), ("/projects/1", "../"), ("/projects/1/versions/shop-1", "../../../"), ("/fitloop/projects/1", "../"),
        ("/fitloop", "/fitloop/"), ("/fitloop/", "./"),
    ],
)  # fmt: skip
async def test_links_are_relative(world: AppWorld, path: str, root: str) -> None:
    hang(world, 1, "Shop", 1)
    page = await page_of(world, path)
    assert page.xpath("//a[@class='brand']/@href") == [root]
    ours = [href for href in page.xpath("//a/@href") if not href.startswith(("http://localhost:8080", "#"))]
    assert all(href.startswith(root) for href in ours)


async def test_404_is_a_page_for_browsers_and_json_for_programs(world: AppWorld) -> None:
    hang(world, 1, "Shop", 1)
    for path in ("/projects/9", "/projects/x", "/projects/1/versions/none"):
        answer = await world.client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        program = await world.client.get(path, headers={"Accept": "*/*"})
        assert program.status_code == 404
        assert program.json()["status"] == 404


async def test_an_address_that_leads_nowhere_is_a_page_for_browsers(world: AppWorld) -> None:
    answer = await world.client.get("/no/such/page")
    assert answer.status_code == 404
    assert lxml.html.fromstring(answer.text).xpath("//a[@class='brand']/@href") == ["../../"]
    program = await world.client.get("/no/such/page", headers={"Accept": "*/*"})
    assert program.json()["status"] == 404


async def test_without_scripts_a_request_is_confirmed_once(world: AppWorld) -> None:
    hang(world, 1, "Shop", 1)
    page = await page_of(world, "/projects/1?asked=train")
    assert page.xpath("//noscript/meta/@content") == ["5; url=1"]


async def test_unlisted_errors_are_counted(world: AppWorld) -> None:
    hang(world, 1, "Shop", 6)
    page = await page_of(world, "/projects/1/versions/shop-3")
    named = len(page.xpath("//section[@aria-labelledby='errors-heading']//tbody/tr"))
    assert named == 50
    estimate = sample_projects.build_versions("1-1", 3)[2].manifest.estimate
    left = estimate.judged - estimate.right - named
    assert left > 0
    assert f"{left} more are not listed." in text_of(
        page.xpath("//section[@aria-labelledby='errors-heading']")[0]
    )


async def test_the_words_of_a_table_do_not_scroll_away_with_it(world: AppWorld) -> None:
    hang(world, 1, "Shop", 3)
    page = await page_of(world, "/projects/1")
    assert not page.xpath("//caption")
    for table in page.xpath("//table[@aria-describedby]"):
        (words,) = page.xpath(f"//p[@id='{table.get('aria-describedby')}']")
        assert text_of(words)


async def test_a_hostile_path_is_said_as_text(world: AppWorld) -> None:
    hang(world, 1, "Shop", 1)
    answer = await world.client.get("/projects/1/versions/%3Cscript%3E")
    assert answer.status_code == 404
    assert "<script>" not in answer.text.replace("<script>(", "")
