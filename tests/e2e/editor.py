"""A browser, and Label Studio in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from demo.servers import EMAIL, PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's chromium; skip the test where it or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = os.environ.get("FITLOOP_TEST_CHROMIUM") or shutil.which("chromium")
    if not executable:
        pytest.skip(
            "there is no chromium on this machine: apt-get install chromium, or FITLOOP_TEST_CHROMIUM"
        )
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@contextlib.contextmanager
def logged_in(label_studio: str) -> Iterator[Page]:
    """Open a page of chromium and log in."""
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{label_studio}/user/login/")
        page.fill("input[name=email]", EMAIL)
        page.fill("input[name=password]", PASSWORD)
        with page.expect_navigation():
            page.press("input[name=password]", "Enter")
        yield page
