"""The documentation: every link, module, class and log event that it names exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "docs/decisions", "docs/runbooks", "bench", "demo/texts", "tests/e2e")
    for page in (ROOT / folder).glob("*.md")
)
EVERY = pytest.mark.parametrize("page", PAGES)
PACKAGES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__init__.py").exists())


@cache
def source() -> str:
    """Return all code of the product."""
    return "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "services").rglob("*.py")))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.resolve().exists(), target
        assert not anchor or anchor in anchors(found), target


@EVERY
def test_named_paths_exist(page: str) -> None:
    roots = (*(f"services/{name}" for name in PACKAGES), *PACKAGES, "services", "charts", "tests", "docs")
    starts = "|".join(sorted(roots, key=len, reverse=True))
    for named in re.findall(rf"`((?:{starts})/[\w./-]+)`", (ROOT / page).read_text("utf-8")):
        assert (ROOT / named).exists() or (ROOT / "services" / named).exists() or _is_module(named), named


def _is_module(named: str) -> bool:
    return any((ROOT / folder / f"{named}.py").exists() for folder in ("", "services"))


@EVERY
def test_named_modules_exist(page: str) -> None:
    for named in re.findall(
        r"`(?:python (?:-P )?-m )?(services(?:\.\w+)+)`", (ROOT / page).read_text("utf-8")
    ):
        path = ROOT / named.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), named


def test_glossary_names_classes_of_the_code() -> None:
    glossary = (ROOT / "docs/architecture.md").read_text("utf-8").partition("\n## Glossary\n")[2]
    classes = re.findall(r"`([A-Z]\w+)", glossary)
    assert classes
    for name in classes:
        assert re.search(rf"^class {name}\b", source(), re.MULTILINE), name


def test_glossary_is_short_enough_to_be_read() -> None:
    glossary = (ROOT / "docs/architecture.md").read_text("utf-8").partition("\n## Glossary\n")[2]
    assert len(re.findall(r"^\| (?!term \|)", glossary, re.MULTILINE)) <= 30


def test_named_log_events_are_logged() -> None:
    section = (ROOT / "docs/logs.md").read_text("utf-8").partition("\n## One line per decision\n")[2]
    rows = re.findall(r"^\| (`[^|]*) \|", section.partition("\n## ")[0], re.MULTILINE)
    events = [event for row in rows for event in re.findall(r"`(\w+)`", row)]
    assert events
    for event in events:
        if event != "event":
            assert f'"{event}"' in source(), event
