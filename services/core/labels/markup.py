"""XML of label configs as the editor parses it, and HTML of texts as a browser shows it. Pure.

Names of tags and attributes are case-insensitive; a tag's text serves as its value.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lxml import etree

from services.core.errors import NoLabelSpace

_MAX_QUOTED: Final = 80
"""Characters of a value in messages."""


@dataclass(frozen=True, eq=False)
class Tag:
    """One element of a label config."""

    name: str
    """As written."""
    attributes: Mapping[str, tuple[str, str]]
    """Attributes by lower-case name: the name as written, and the value. The last of several spellings counts."""
    text: str
    """Its text content, which the editor uses as the value."""
    parent: Tag | None = None
    nested: tuple[Any, ...] = ()
    """Child elements, as parsed."""

    @property
    def kind(self) -> str:
        """Return the name in lower case."""
        return self.name.lower()

    def get(self, attribute: str) -> str:
        """Return an attribute's value; "" if it is absent."""
        return self.attributes.get(attribute, ("", ""))[1]

    def written(self, attribute: str) -> str:
        """Return the attribute as written in the config: `visibleWhen="region-selected"`."""
        name, value = self.attributes.get(attribute, (attribute, ""))
        return f'{name}="{truncate(value)}"'

    def is_set(self, attribute: str) -> bool:
        """Return whether a switch is on: the editor treats any text but `false` as true."""
        return self.get(attribute).strip().lower() not in {"", "false"}

    @property
    def value(self) -> str:
        """Return the value as the editor determines it."""
        return self.text or self.get("value")

    @cached_property
    def children(self) -> tuple[Tag, ...]:
        return tuple(_tag(element, self) for element in self.nested)

    def descendants(self) -> Iterator[Tag]:
        """Yield all tags below, depth first, in the config's order."""
        for child in self.children:
            yield child
            yield from child.descendants()

    def ancestors(self) -> Iterator[Tag]:
        """Yield the enclosing tags, the nearest first."""
        if self.parent is not None:
            yield self.parent
            yield from self.parent.ancestors()

    def __str__(self) -> str:
        """Format the tag for messages: `<Choices name="topic">`."""
        named = f" {self.written('name')}" if self.get("name") else ""
        return f"<{self.name}{named}>"


def truncate(value: str) -> str:
    """Shorten a value for messages: it may be a page of HTML."""
    return value if len(value) <= _MAX_QUOTED else f"{value[:_MAX_QUOTED]}…"


def read_markup(label_config: str) -> Tag:
    """Return the root tag. Raises NoLabelSpace if the text is not XML, or declares entities."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_pis=True, strip_cdata=False, encoding="utf-8"
    )
    try:
        root = etree.fromstring(label_config.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:  # ValueError: half of a surrogate pair, a NUL
        raise NoLabelSpace(f"The label config cannot be read as XML: {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise NoLabelSpace("The label config has a DOCTYPE, which Label Studio refuses: remove it.")
    return _tag(root, None)


def _tag(element: Any, parent: Tag | None) -> Tag:
    tags = [child for child in element if isinstance(child.tag, str)]
    name = _qualified(element.prefix, element.tag)
    is_text = not tags or name.lower() == "hypertext"
    spelled = {str(key).lower(): (str(key), str(value)) for key, value in element.attrib.items()}
    return Tag(name, spelled, _inner(element) if is_text else "", parent, () if is_text else tuple(tags))


def _qualified(prefix: str | None, tag: str) -> str:
    local = etree.QName(tag).localname
    return f"{prefix}:{local}" if prefix else local


def _inner(element: Any) -> str:
    inside = "".join(etree.tostring(child, encoding="unicode") for child in element)
    return (html.escape(element.text or "", quote=False) + inside).strip()


_INVISIBLE: Final = frozenset(
    """script style head title template noscript iframe textarea option select datalist object audio video
    canvas svg math""".split()  # noqa: SIM905  # words
)
_INLINE: Final = frozenset(
    """a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q rp rt ruby s
    samp small span strike strong sub sup time tt u var wbr""".split()  # noqa: SIM905  # words
)
_PREFORMATTED: Final = frozenset({"pre", "listing", "xmp"})

_SPACES: Final = re.compile(r"[ \t\n\f\r]+")

_HIDDEN: Final = re.compile(r"(^|;)\s*display\s*:\s*none\b", re.IGNORECASE)

_EDGES: Final = re.compile(r"[ \t]*\n\s*")


def visible_text(markup: str) -> str:
    """Return the text that a browser shows. A text without tags only loses entities and extra white space."""
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_pis=True, remove_comments=True)
    source = f"<div>{markup}</div>".replace("\0", "").encode(errors="replace")
    try:
        root = etree.fromstring(source, parser)
    except (etree.LxmlError, ValueError):
        return ""
    return "" if root is None else _EDGES.sub("\n", "".join(_pieces(root))).strip()


def _pieces(root: Any) -> list[str]:
    """Walk the tree without recursion, since tags may be nested too deeply for it."""
    pieces: list[str] = []
    waiting: list[tuple[Any, bool, bool]] = [(root, False, False)]
    while waiting:
        element, is_kept, is_left = waiting.pop()
        tag = element.tag if isinstance(element.tag, str) else ""
        is_shown = not _is_hidden(element, tag)
        if not is_left:
            _append_piece(pieces, _separator(tag))
            waiting.append((element, is_kept, True))
            if is_shown:
                keeps = is_kept or tag in _PREFORMATTED
                _append_piece(pieces, _collapse(element.text, is_kept=keeps))
                waiting.extend((child, keeps, False) for child in reversed(element))
            continue
        _append_piece(pieces, _separator(tag))
        _append_piece(pieces, _collapse(element.tail, is_kept=is_kept))
    return pieces


def _append_piece(pieces: list[str], piece: str) -> None:
    """Append the piece; a space that follows white space is dropped."""
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
