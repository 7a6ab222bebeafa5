"""Learning curves: what the versions of a project reached with how many labels, and what was forecast from that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forecast:
    """Accuracy to expect with twice as many labelled texts, as a range."""

    texts: int
    """Labelled texts then."""
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One version on its project's learning curve."""

    texts: int
    """Labelled texts that it was trained on."""
    accuracy: float
    """Expected on the project's texts (ExpectedAccuracy)."""
    margin: float = 0.0
    """Half of that figure's interval."""
    forecast: Forecast | None = None
    """Made with the version; None if the curve was flat."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What more labels would bring a version, and how good forecasts of its project have been."""

    texts: int
    """Labelled texts that it was trained on."""
    accuracy: float
    forecast: Forecast
    right: int = 0
    """Earlier forecasts that held, of `scored` whose number of labels was reached."""
    scored: int = 0
