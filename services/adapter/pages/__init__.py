"""Render the status page. It works without JavaScript, and every value is escaped.

Each page embeds one style sheet and one small script, allowed by their hashes; the browser loads and runs nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services import __version__
from services.adapter.pages.formatting import FILTERS
from services.core.accuracy import CROSS_VALIDATED_NOTE, EXPECTED_NOTE, F1_NOTE
from services.core.suspects import ADVICE


def _asset(name: str) -> Markup:
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  # our own files


def _csp_hash(asset: str) -> str:
    digest = base64.b64encode(hashlib.sha256(asset.encode()).digest()).decode()
    return f"'sha256-{digest}'"


_STYLE: Final = _asset("style.css") + _asset("report.css")
_SCRIPT: Final = _asset("live.js")
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_csp_hash(_STYLE)}; script-src {_csp_hash(_SCRIPT)}; connect-src 'self'; "
        "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers hide that a form comes from this site
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


def render(template: str, request: Request, **values: Any) -> str:
    """Render HTML; blocks for milliseconds. `root` in a template is the relative path to the index page."""
    root = relative_root(request)
    page = _environment.get_template(template)
    return page.render(root=root, release=__version__, style=_STYLE, script=_SCRIPT, **values)


def page_response(html: str, status: int = 200) -> Response:
    """Return the page as a response with the security headers."""
    return HTMLResponse(html, status, headers=HEADERS)


def relative_root(request: Request) -> str:
    """Return the relative path to the index page, which is right behind any proxy, whatever prefix it adds or strips."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    before: str = request.scope.get("root_path", "")
    path = request.scope["path"].removeprefix(before)
    if path in {"", "/"}:
        return "./" if raw.endswith(b"/") else f"{before}/"
    return "../" * (path.count("/") - 1) or "./"


def to_problem_page(request: Request, response: Response) -> Response:
    """Turn an error's JSON into a page if the client is a browser."""
    is_problem = response.status_code >= 400 and response.media_type == "application/json"
    if not is_problem or not prefers_html(request.headers.get("accept", "")):
        return response
    message = str(orjson.loads(response.body).get("detail", ""))
    return page_response(render("problem.html", request, message=message), response.status_code)


def prefers_html(accept: str) -> bool:
    """Whether an Accept header prefers text/html to application/json; `*/*` alone comes from programs."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind in weights:
            weights[kind] = max(weights[kind], _quality(parameters))
    return weights["text/html"] > weights["application/json"]


def _quality(parameters: Sequence[str]) -> float:
    given = [text.removeprefix("q=") for text in parameters if text.startswith("q=")]
    try:
        return float(given[0]) if given else 1.0
    except ValueError:
        return 0.0


_environment: Final = Environment(
    loader=PackageLoader(__name__, ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    auto_reload=False,
)
_environment.filters.update(FILTERS)
_environment.globals |= {
    "expected_note": EXPECTED_NOTE,
    "f1_note": F1_NOTE,
    "cross_validated_note": CROSS_VALIDATED_NOTE,
    "suspects_advice": ADVICE,
}
for _name in _environment.list_templates(extensions=["html"]):
    _environment.get_template(_name)  # compiled at import, not during the first request
