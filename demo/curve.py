"""A learning curve in the terminal: labels to the right, per cent upwards."""

from __future__ import annotations

from collections.abc import Sequence

_HEIGHT, _WIDTH = 12, 60


def draw(points: Sequence[tuple[int, float]], estimates: Sequence[tuple[int, float]] = ()) -> str:
    """Lines of text for (labels, share in [0, 1]) points, `●` the truth and `○` the estimate."""
    if not points:
        return ""
    furthest = max(labels for labels, _ in (*points, *estimates))
    grid = [[" "] * (_WIDTH + 1) for _ in range(_HEIGHT + 1)]
    for series, mark in ((estimates, "○"), (points, "●")):
        for labels, share in series:
            height = _HEIGHT - round(min(max(share, 0.0), 1.0) * _HEIGHT)
            grid[height][round(labels / furthest * _WIDTH)] = mark
    lines = []
    for number, row in enumerate(grid):
        scale = f"{100 * (_HEIGHT - number) / _HEIGHT:4.0f} % ┤" if number % 3 == 0 else "       │"
        lines.append(scale + "".join(row).rstrip())
    ruler = "       └" + "─" * (_WIDTH + 1)
    return "\n".join(
        [*lines, ruler, f"        0{furthest:>{_WIDTH}} labels", "        ● right on the 150   ○ estimate"]
    )
