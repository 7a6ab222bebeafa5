"""HTML to the text that a browser shows of it. Pure.

Blocks, lines and cells divide words; scripts, styles and what is hidden by an attribute show nothing.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree

_INVISIBLE: Final = (
    "script style head title template noscript iframe textarea option select datalist object audio video "
    "canvas svg math"
).split()
_INLINE: Final = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q rp rt ruby s "
    "samp small span strike strong sub sup time tt u var wbr"
).split()
_PREFORMATTED: Final = frozenset({"pre", "listing", "xmp"})
_SPACES: Final = re.compile(r"[ \t\n\f\r]+")
_HIDDEN: Final = re.compile(r"(^|;)\s*display\s*:\s*none\b", re.IGNORECASE)
_EDGES: Final = re.compile(r"[ \t]*\n\s*")


def visible_text(markup: str) -> str:
    """The text between the tags; a text without a tag stays as it is, but for entities and white space."""
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_pis=True, remove_comments=True)
    source = f"<div>{markup}</div>".replace("\0", "").encode(errors="replace")
    try:
        root = etree.fromstring(source, parser)
    except (etree.LxmlError, ValueError):
        return ""
    return "" if root is None else _EDGES.sub("\n", "".join(_pieces(root))).strip()


def _pieces(root: Any) -> list[str]:
    """Without recursion: tags may be nested more deeply than calls."""
    pieces: list[str] = []
    waiting: list[tuple[Any, bool, bool]] = [(root, False, False)]
    while waiting:
        element, is_kept, is_left = waiting.pop()
        tag = element.tag if isinstance(element.tag, str) else ""
        is_shown = not _is_hidden(element, tag)
        if not is_left:
            _append(pieces, _separator(tag))
            waiting.append((element, is_kept, True))
            if is_shown:
                keeps = is_kept or tag in _PREFORMATTED
                _append(pieces, _collapse(element.text, is_kept=keeps))
                waiting.extend((child, keeps, False) for child in reversed(element))
            continue
        _append(pieces, _separator(tag))
        _append(pieces, _collapse(element.tail, is_kept=is_kept))
    return pieces


def _append(pieces: list[str], piece: str) -> None:
    """One space at most, whichever tags it stands in."""
    is_doubled = piece.startswith(" ") and pieces and pieces[-1].endswith((" ", "\n"))
    if added := piece[1:] if is_doubled else piece:
        pieces.append(added)


def _separator(tag: str) -> str:
    if tag in {"td", "th", "img", "input", "button"}:
        return " "
    return "" if not tag or tag in _INLINE or tag in _INVISIBLE else "\n"


def _is_hidden(element: Any, tag: str) -> bool:
    if tag in _INVISIBLE or not tag:
        return True
    return bool(element.get("hidden")) or bool(_HIDDEN.search(element.get("style") or ""))


def _collapse(text: str | None, *, is_kept: bool) -> str:
    return (text or "") if is_kept else _SPACES.sub(" ", text or "")
