"""The figures in docs/scale.md, between two markers, and their plot; the text around them is written by hand."""

from __future__ import annotations

from pathlib import Path

from bench.document import section
from bench.result import Result
from bench.scale.plot import draw

_PLOT = "![Seconds of a tick, a command and a takeover by number of projects](scale.svg)\n\n"
_BEGIN, _END = "<!-- figures -->", "<!-- /figures -->"


def write(result: Result, page: Path) -> None:
    """Replace the figures in the page, and the plot beside it."""
    page.write_text(with_figures(page.read_text("utf-8"), result), encoding="utf-8")
    page.with_suffix(".svg").write_text(draw(result.figures), encoding="utf-8")


def with_figures(text: str, result: Result) -> str:
    """Return the page with the figures of the result. Raises ValueError if it has no markers."""
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    _, end, after = rest.partition(f"{_END}\n")
    if not begin or not end:
        raise ValueError(f"The page has no {_BEGIN} and {_END}, each on a line of its own.")
    _, _, body = section(result).partition("\n")
    return f"{before}{begin}{_PLOT}{body}{end}{after}"
