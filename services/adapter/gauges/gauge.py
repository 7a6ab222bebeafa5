"""A gauge of a project, which the leader gives out: name, help, and how it is read from the project's view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from services.adapter.state.board import ProjectView
from services.core.domain import Served

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Values by the labels beside the project's; None: there is nothing to say."""
Read = Callable[[ProjectView, Served], Values]
"""From a view, and from what it serves as people are told now."""


@dataclass(frozen=True, slots=True)
class ProjectGauge:
    """A gauge with the label `project`, and with `labels`, each with its possible values; () for any."""

    name: str
    help: str
    values: Read
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    adds_up: bool = False
    """Whether a sum over projects says something."""


def plain(read: Callable[[ProjectView], float | None]) -> Read:
    """One value, from the view alone."""
    return lambda view, _: [((), read(view))]
