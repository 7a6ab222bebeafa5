"""The status page for browsers: rendered here, without scripts; every value is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def status_page(projects: Sequence[dict[str, Any]], notice: str = "") -> str:
    """HTML of projects as `services.adapter.summaries` describes them; `notice` stands above. Blocking, milliseconds."""
    return _environment.get_template("status.html").render(projects=projects, notice=notice)


def prefers_html(accept: str) -> bool:
    """Whether an Accept header names text/html, and not application/json before it; `*/*` alone is a program's."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: Sequence[str]) -> float:
    given = [text.removeprefix("q=") for text in parameters if text.startswith("q=")]
    try:
        return float(given[0]) if given else 1.0
    except ValueError:
        return 0.0


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


_environment: Final = Environment(
    loader=PackageLoader(__name__, ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_environment.filters["moment"] = _moment
