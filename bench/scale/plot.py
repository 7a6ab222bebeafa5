"""The plot of docs/scale.md: seconds by number of projects, on logarithmic axes, with the goals as dashed lines. SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 250, 170, 46, 34, 66
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c")
_DECADES = (0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of the plot: its lines by name, and the goal in seconds."""

    title: str
    lines: Mapping[str, Callable[[Figures], float]]
    goals: Sequence[float]


_PANELS = (
    Panel(
        "tick, p99",
        {
            "at rest": lambda figures: float(figures["rest: ticks"]["p99"]),
            "Label Studio hangs": lambda figures: float(figures["ticks, hanging"]["p99"]),
        },
        (0.25,),
    ),
    Panel(
        "command to in effect, slowest",
        {
            "healthy": lambda figures: float(figures["commands, healthy"]["most"]),
            "Label Studio hangs": lambda figures: float(figures["commands, hanging"]["most"]),
        },
        (2.0,),
    ),
    Panel(
        "takeover",
        {
            "first command": lambda figures: float(figures["takeover: command"]),
            "complete": lambda figures: float(figures["takeover: complete"]),
        },
        (3.0, 20.0),
    ),
)


def draw(found: Mapping[str, Figures]) -> str:
    """Return the plot of the sizes whose names are numbers."""
    sizes = {int(name): figures for name, figures in found.items() if name.isdigit()}
    parts = [_panel(panel, sizes, _LEFT + number * (_WIDTH + _GAP)) for number, panel in enumerate(_PANELS)]
    width, height = len(_PANELS) * (_WIDTH + _GAP), _HEIGHT + _TOP + 74
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _panel(panel: Panel, sizes: Mapping[int, Figures], left: float) -> str:
    parts = [f'<text x="{left}" y="20" font-weight="bold">{panel.title}</text>']
    for seconds in _DECADES:
        parts.append(_line(left, _y(seconds), left + _WIDTH, _y(seconds), "#dddddd"))
        parts.append(f'<text x="{left - 6}" y="{_y(seconds) + 4:.1f}" text-anchor="end">{seconds:g} s</text>')
    parts += [
        f'<text x="{_x(size, sizes, left):.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{size}</text>'
        for size in sizes
    ]
    for goal in panel.goals:
        parts.append(_line(left, _y(goal), left + _WIDTH, _y(goal), "#555555", 'stroke-dasharray="4 3"'))
        parts.append(f'<text x="{left + 4}" y="{_y(goal) - 4:.1f}" fill="#555555">goal {goal:g} s</text>')
    for number, (name, read) in enumerate(panel.lines.items()):
        parts.append(_series(read, sizes, left, _COLOURS[number]))
        parts.append(
            f'<text x="{left}" y="{_TOP + _HEIGHT + 34 + 15 * number}" fill="{_COLOURS[number]}">● {name}</text>'
        )
    return "".join(parts)


def _series(read: Callable[[Figures], float], sizes: Mapping[int, Figures], left: float, colour: str) -> str:
    points = []
    for size, figures in sizes.items():
        try:
            seconds = read(figures)
        except KeyError:
            continue
        if math.isfinite(seconds):
            points.append((_x(size, sizes, left), _y(seconds)))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _x(size: int, sizes: Mapping[int, Figures], left: float) -> float:
    low, high = math.log(min(sizes)), math.log(max(sizes))
    return left + 20 + (_WIDTH - 40) * (math.log(size) - low) / max(high - low, 1e-9)


def _y(seconds: float) -> float:
    low, high = math.log10(_DECADES[0]), math.log10(_DECADES[-1])
    share = (math.log10(min(max(seconds, _DECADES[0]), _DECADES[-1])) - low) / (high - low)
    return _TOP + _HEIGHT * (1 - share)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'
