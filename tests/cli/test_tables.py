"""cli.tables: whole values in plain columns where nobody looks at a terminal."""

from __future__ import annotations

import sys

import pytest

from services.cli.tables import format_table, print_table

HEAD = ["version", "served", "gate"]
LONG = "Held: " + "right 9 of 24, and the one that is served is right more often; " * 6
ROWS = [["support-1", "", LONG], ["支持-12", "yes", "two\nlines\tand [brackets]"]]


def test_columns_are_aligned_and_nothing_is_cut_or_wrapped() -> None:
    head, first, second = format_table(HEAD, ROWS).splitlines()
    assert head == "VERSION    SERVED  GATE"
    assert first == f"support-1  -       {LONG.strip()}"
    assert second == "支持-12    yes     two lines and [brackets]"


def test_a_pipe_gets_plain_lines_and_a_terminal_a_ruled_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(HEAD, ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 3
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(HEAD, ROWS)
    assert "─" in capsys.readouterr().out
