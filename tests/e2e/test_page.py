"""The status page in a real browser, from a real adapter over a store with real documents.

Needs Debian's chromium (or FITLOOP_TEST_CHROMIUM) and playwright; skipped visibly where either is missing. Pictures are
kept where FITLOOP_TEST_PICTURES names a folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.core.domain import Action
from services.core.settings import AuthSettings, Settings
from tests.e2e.adapters import RunningAdapter, running_adapter
from tests.e2e.editor import chromium
from tests.support import sample_projects
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, HttpCredentials, Page, ViewportSize

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
SECURED = Settings(
    auth=AuthSettings(
        username="ann",
        password="secret",
        secret_path="hush-hush-hush-hush",
        path_prefix="/fitloop",
    )
)
WHO: HttpCredentials = {"username": "ann", "password": "secret"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAdapter]:
    """Three projects: one with an active run, one with hostile names and labels, one with a long name, 150 labels and a problem."""
    with running_adapter(tmp_path_factory.mktemp("store"), SECURED) as found:
        labels = (
            sample_projects.HOSTILE,
            "<img src=x onerror=alert(2)>",
            *sample_projects.INTENTS[:3],
            "L" * 90,
            "שלום " * 200,
        )
        made = {
            1: sample_projects.build_versions("1-1", 8),
            2: sample_projects.build_versions("2-2", 3, labels),
            3: sample_projects.build_versions(
                "3-3", 2, tuple(f"{number} {'intent ' * number}" for number in range(150))
            ),
        }
        for versions in made.values():
            sample_projects.publish_versions(found.store, versions)
        found.publish_board(
            sample_projects.build_view(1, "Shop messages", made[1], labelled=246, active=sample_projects.build_run_status(1), sentence=_training(30)),
            sample_projects.build_view(2, sample_projects.HOSTILE, made[2]),
            sample_projects.build_view(3, sample_projects.LONG, made[3], problem="Run 3-3 failed: 'Refund' alone has examples. Label texts with another label."),
        )  # fmt: skip
        eventually(lambda: _answers(found), 20, what="the board is read")
        yield found


def _training(step: int) -> str:
    return f"serving shop-8: accuracy about 76 % (±4); training shop-9: fine-tuning, step {step} of 120, 40 s left"


def _answers(found: RunningAdapter) -> bool:
    import httpx

    answer = httpx.get(found.url, auth=("ann", "secret"), headers={"Accept": "text/html"}, timeout=5)
    cards = answer.text.count('<li class="card')
    return cards == len(found.views) and (cards > 0 or "No projects yet" in answer.text)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A desktop page whose errors fail the test."""
    yield from _page(browser, viewport=DESKTOP)


def _page(browser: Browser, **options: Any) -> Iterator[Page]:
    context = browser.new_context(http_credentials=WHO, **options)
    opened = context.new_page()
    troubles: list[str] = []
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: troubles.append(dialog.message))
    opened.on("console", lambda message: troubles.append(message.text) if _is_trouble(message) else None)
    yield opened
    context.close()
    assert troubles == []


def _is_trouble(message: ConsoleMessage) -> bool:
    """Return whether it is a policy violation or a script error; a network outage is neither."""
    return message.type == "error" and "net::ERR_INTERNET_DISCONNECTED" not in message.text


def _keep(page: Page, name: str) -> None:
    if folder := os.environ.get("FITLOOP_TEST_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_fit_the_screen_and_escape_names(
    browser: Browser, shop: RunningAdapter, size: ViewportSize, scheme: str
) -> None:
    """No page is wider than the screen, no name is executed, and dark mode uses its own colours."""
    paths = {
        "projects": "/",
        "project": "/projects/1",
        "hostile": "/projects/2",
        "long": "/projects/3",
        "version": "/projects/2/versions/shop-3",
        "many": "/projects/3/versions/shop-2",
        "question": "/projects/1/promote?version=shop-3",
    }
    for opened in _page(browser, viewport=size, color_scheme=scheme):
        for name, path in paths.items():
            opened.goto(f"{shop.url}{path}")
            assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, size)
            ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(246, 247, 248)") is (scheme == "light")
            _keep(opened, f"{name}-{size['width']}-{scheme}")


def test_an_open_page_updates_while_a_run_progresses(page: Page, shop: RunningAdapter) -> None:
    """Progress updates, and open details and focus are kept."""
    page.goto(f"{shop.url}/projects/1")
    page.evaluate("window.untouched = true")
    page.click("#log summary")
    page.focus("text=Train now")
    assert page.get_attribute("progress", "value") == "30"
    first, *others = shop.views
    shop.publish_board(
        replace(first, active=sample_projects.build_run_status(1, 77), sentence=_training(77)), *others
    )
    page.wait_for_selector("progress[value='77']", timeout=15_000)
    assert "step 77 of 120" in page.inner_text("#state")
    assert page.evaluate("window.untouched")
    assert page.get_attribute("#log", "open") is None
    assert page.evaluate("document.activeElement.textContent") == "Train now"


def test_a_page_shows_when_fitloop_is_offline(page: Page, shop: RunningAdapter) -> None:
    """The notice disappears once Fitloop answers again."""
    page.goto(f"{shop.url}/projects/1")
    assert page.is_hidden("#offline")
    page.context.set_offline(True)
    page.wait_for_selector("#offline", state="visible", timeout=15_000)
    page.context.set_offline(False)
    page.wait_for_selector("#offline", state="hidden", timeout=15_000)


def test_an_open_page_gains_new_sections(page: Page, tmp_path: Path) -> None:
    """New sections appear; existing ones stay the same element, so screen readers announce only what is new."""
    with running_adapter(tmp_path, SECURED) as found:
        found.publish_board(sample_projects.build_view(1, "Shop messages"))
        eventually(lambda: _answers(found), 20, what="the board is read")
        page.goto(f"{found.url}/projects/1?asked=train")
        assert page.url == f"{found.url}/projects/1"
        assert page.locator("#run, #versions").count() == 0
        page.evaluate("window.part = document.getElementById('problems')")
        made = sample_projects.build_versions("1-1", 1)
        sample_projects.publish_versions(found.store, made)
        found.publish_board(
            sample_projects.build_view(
                1,
                "Shop messages",
                made,
                active=sample_projects.build_run_status(1),
                problem="Run 1-8 failed: why.",
            )
        )
        page.wait_for_selector("#run", timeout=15_000)
        parts = page.eval_on_selector_all("[data-live]", "found => found.map(one => one.id)")
        assert parts == ["problems", "state", "not-counted", "curve", "help", "evaluation", "versions", "run"]
        assert page.evaluate("part.isConnected && part.innerText.includes('Run 1-8 failed')")
        page.goto("about:blank")  # or it would ask an adapter that is gone


def test_a_page_updates_with_credentials_in_its_url(browser: Browser, shop: RunningAdapter) -> None:
    """As pasted from Label Studio's settings."""
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(f"{shop.url.replace('://', '://ann:secret@')}/projects/1")
    with opened.expect_response(lambda answer: answer.request.resource_type == "fetch") as told:
        pass
    assert told.value.status == 200
    assert opened.is_hidden("#offline")
    context.close()


def test_a_visible_tab_updates_at_once(page: Page, shop: RunningAdapter) -> None:
    """Instead of at the next interval."""
    page.goto(f"{shop.url}/projects/3")
    assert page.get_attribute("body", "data-pace") == "10"
    is_asked = lambda request: request.resource_type == "fetch"  # noqa: E731
    with page.expect_request(is_asked, timeout=3_000):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("prefix", ["", "/fitloop", "/hush-hush-hush-hush", "/fitloop/hush-hush-hush-hush"])
def test_a_version_is_promoted_by_keyboard_below_a_prefix(
    browser: Browser, shop: RunningAdapter, prefix: str
) -> None:
    """Through links and a confirmation, without scripts; the command is in the inbox."""
    before = {command.id for command in shop.commands()}
    for opened in _page(browser, viewport=PHONE, java_script_enabled=False):
        opened.goto(f"{shop.url}{prefix}/")
        _press(opened, "Shop messages")
        _press(opened, "Promote shop-3")
        assert "Promote shop-3?" in opened.inner_text("h1")
        assert "instead of shop-8" in opened.inner_text("main")
        _press(opened, "Promote shop-3")
        assert opened.url == f"{shop.url}{prefix}/projects/1?asked=promote"
        assert "Promotion requested." in opened.inner_text("main")
    (command,) = [command for command in shop.commands() if command.id not in before]
    assert (command.action, command.version, command.project_id) == (Action.PROMOTE, "shop-3", 1)


def _press(page: Page, name: str) -> None:
    """Press Tab until the element of that name has the focus, then Enter."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.locator(":focus").count() and page.locator(":focus").text_content() == name:
            with page.expect_navigation():
                page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name!r} cannot be reached by the Tab key on {page.url}")


def test_cross_site_requests_are_refused(browser: Browser, shop: RunningAdapter, tmp_path: Path) -> None:
    """A browser sends the known password for any site's form, so the origin is checked."""
    context = browser.new_context(http_credentials=WHO)
    opened = context.new_page()
    opened.goto(f"{shop.url}/projects/1")
    before = len(shop.commands())
    for path, body in {
        "/projects/1/train": "",
        "/api/projects/1/train": "",
        "/api/projects/1/cancel": "{}",
    }.items():
        hostile = tmp_path / "hostile.html"
        hostile.write_text(
            f'<form id=f method=post action="{shop.url}{path}" enctype="text/plain"><input name=\'{body}\'></form>'
            "<script>document.getElementById('f').submit()</script>"
        )
        opened.goto(hostile.as_uri())
        opened.wait_for_url(f"{shop.url}{path}")
        assert "nothing was done" in opened.inner_text("body")
    context.close()
    assert len(shop.commands()) == before


def test_pages_refresh_without_javascript(browser: Browser, shop: RunningAdapter) -> None:
    """The content is complete."""
    for opened in _page(browser, viewport=DESKTOP, java_script_enabled=False):
        opened.goto(f"{shop.url}/projects/1")
        assert opened.locator("noscript meta[http-equiv=refresh]").count() == 1
        assert opened.is_visible("svg.curve")
        assert opened.is_visible("#versions")


@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_first_page_lists_all_projects(page: Page, tmp_path: Path, count: int) -> None:
    with running_adapter(tmp_path, SECURED) as found:
        views = []
        for number in range(1, count + 1):
            made = sample_projects.build_versions(f"{number}-{number}", 2)
            sample_projects.publish_versions(found.store, made)
            views.append(sample_projects.build_view(number, f"Project {41 - number}", made))
        found.publish_board(*views)
        eventually(lambda: _answers(found), 20, what="the board is read")
        eventually(
            lambda: page.goto(found.url) and page.locator(".card").count() == count, 20, what="all projects"
        )
        assert page.is_visible("text=No projects yet") is (count == 0)
        _keep(page, f"projects-{count}")
