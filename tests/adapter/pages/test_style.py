"""The style sheet: what people with weak eyes need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_are_readable_in_light_and_dark(scheme: int) -> None:
    """WCAG's 4.5 to 1 for text."""
    sheet = (Path(__file__).parents[3] / "services/adapter/pages/style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", blocks[scheme]))
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("sheet", "ground")]
    pairs += [("on-accent", "accent"), ("ink", "bad-ground"), ("ink", "hint-ground"), ("bad", "sheet")]
    for ink, ground in pairs:
        assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def test_every_rule_is_about_something_that_a_page_has() -> None:
    """Browsers ignore a typo in a selector."""
    folder = Path(__file__).parents[3] / "services/adapter/pages"
    sheet = "".join(sheet.read_text() for sheet in folder.glob("*.css"))
    pages = "".join(page.read_text() for page in folder.glob("*.html"))
    rules = re.findall(r"([^{}]*)\{", sheet)
    assert not [rule for rule in rules if re.search(r"\bth\.tasks\b|thead .*tbody", rule)]
    made = {"served", "promoted"} | {f"{kind}-{shade}" for kind in ("right", "wrong") for shade in range(6)}
    for name in set(re.findall(r"\.([a-z][a-z0-9-]*)", " ".join(rules))) - made:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", pages), name


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
