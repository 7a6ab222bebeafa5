"""Tables of the command line: with rules on a terminal, and elsewhere plain columns of whole values, one row a line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

_GAP = "  "
_NOTHING = "-"
"""For an empty cell, so that columns can be told apart by blanks."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print them as whoever reads stdout wants them."""
    if sys.stdout.isatty():
        _ruled(head, rows)
    else:
        typer.echo(format_table(head, rows))


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns without rules, never wrapped or cut. Pure."""
    from rich.cells import cell_len

    lines = [
        [" ".join(cell.split()) or _NOTHING for cell in row] for row in ([one.upper() for one in head], *rows)
    ]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _ruled(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = Table(box=box.SIMPLE_HEAD)
    found.add_column(head[0], no_wrap=True)  # a name that is to be copied; sentences give way
    for title in head[1:]:
        found.add_column(title, overflow="fold")
    for row in rows:
        found.add_row(*(escape(cell) for cell in row))
    Console().print(found)
