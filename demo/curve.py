"""A learning curve in the terminal: accuracy in per cent over the number of labels."""

from __future__ import annotations

from collections.abc import Sequence

_HEIGHT, _WIDTH = 12, 60


def draw(points: Sequence[tuple[int, float]], estimates: Sequence[tuple[int, float]] = ()) -> str:
    """Draw points of (labels, accuracy in [0, 1]): `●` on the holdout, `○` as estimated."""
    if not points:
        return ""
    furthest = max(1, *(labels for labels, _ in (*points, *estimates)))
    grid = [[" "] * (_WIDTH + 1) for _ in range(_HEIGHT + 1)]
    for series, mark in ((estimates, "○"), (points, "●")):
        for labels, accuracy in series:
            height = _HEIGHT - round(min(max(accuracy, 0.0), 1.0) * _HEIGHT)
            grid[height][round(labels / furthest * _WIDTH)] = mark
    lines = []
    for number, row in enumerate(grid):
        scale = f"{100 * (_HEIGHT - number) / _HEIGHT:4.0f} % ┤" if number % 3 == 0 else "       │"
        lines.append(scale + "".join(row).rstrip())
    ruler = "       └" + "─" * (_WIDTH + 1)
    return "\n".join(
        [
            *lines,
            ruler,
            f"        0{furthest:>{_WIDTH}} labels",
            "        ● accuracy on the holdout   ○ estimate",
        ]
    )
