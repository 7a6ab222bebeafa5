"""docs/configuration.md matches the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.cli.reference import main, reference
from services.core.settings import GROUPS, variables

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_up_to_date() -> None:
    assert main(["--check", str(ROOT / "docs" / "configuration.md")]) == 0


def test_every_variable_is_described() -> None:
    page = reference()
    for group in GROUPS.values():
        for name, info in group.model_fields.items():
            for variable in variables(group, name):
                assert f"`{variable}`" in page
            assert info.description
            assert info.description.replace("\n", " ") in page


def test_defaults_are_shown_as_values_or_words() -> None:
    defaults = dict(re.findall(r"^\| `(\w+)`.*? \| (.+?) \| ", reference(), re.MULTILINE))
    assert defaults["START_TRAINING_EACH_N_UPDATES"] == "`10`"
    assert defaults["FITLOOP_RECONCILE_SECONDS"] == "`15`"
    assert defaults["WORKERS"] == "one per core"
    assert defaults["BASIC_AUTH_PASS"] == "unset"
    assert defaults["LEARNING_RATE"] == "unset"
    assert defaults["METHOD"] == "`auto`"


def test_check_reports_a_stale_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "configuration.md"
    assert main(["--check", str(page)]) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert main([str(page)]) == 0
    assert main([str(page), "--check"]) == 0
    page.write_text("old")
    assert main(["--check", str(page)]) == 1


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage" in capsys.readouterr().err
