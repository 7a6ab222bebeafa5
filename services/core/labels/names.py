"""What labels are called, in words that an encoder can compare with texts. Pure.

A label is a symbol for annotations (`card_arrival`, `c17`); its name is what a person reads of it: alias, hint and value, written
as words. A part that is a code, with no three letters in a row, says nothing and is left out if another part does say something.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from services.core.domain import LabelSpace
from services.core.labels.markup import Tag, visible_text

_SEPARATORS: Final = re.compile(r"[\s_/\\|>:-]+|(?<!\d)\.|\.(?!\d)")
"""What stands between the words of identifiers and paths; the point of a number is none."""
_MIN_WORD: Final = 3
"""Letters in a row that make a word; a single one does in scripts without capitals, such as Chinese."""


def clean_name(written: str) -> str:
    """Return an identifier as words in lower case: `cardArrival`, `card_arrival` and `Card/Arrival` are `card arrival`.

    What holds nothing but separators is returned as it is.
    """
    words = _SEPARATORS.sub(" ", _split_capitals(unicodedata.normalize("NFC", written))).lower()
    return " ".join(words.split()) or written.strip()


def choice_name(choice: Tag) -> str:
    """Return the name of one `<Choice>`."""
    shown = visible_text(choice.get("html")) if choice.get("html") else choice.value
    parts = [choice.get("alias"), shown, choice.get("hint"), choice.get("description")]
    return join_names(clean_name(part) for part in parts)


def join_names(parts: Iterable[str]) -> str:
    """Join the parts that have a word, each once; without any, return the first part that is not empty."""
    found = [part for part in dict.fromkeys(parts) if part]
    return ", ".join(filter(_has_word, found)) or next(iter(found), "")


def label_names(space: LabelSpace) -> tuple[str, ...]:
    """Return a name for each label; of a label space that an earlier release has stored, the labels as words."""
    if len(space.names) == len(space.labels):
        return space.names
    return tuple(map(clean_name, space.labels))


def _split_capitals(written: str) -> str:
    """Put a space before each capital that begins a word: `cardArrival`, `HTTPError`, but `iPhone` is one word."""
    padded = f"  {written} "
    return "".join(
        f" {here}" if _begins_word(*padded[place : place + 4]) else here for place, here in enumerate(written)
    )


def _begins_word(second: str, before: str, here: str, after: str) -> bool:
    """Return whether `here` begins a word within an identifier; the characters before it are `second` and `before`."""
    if not here.isupper():
        return False
    ends_word = before.isdigit() or (before.islower() and second.isalnum())
    return ends_word or (before.isupper() and after.islower())


def _has_word(part: str) -> bool:
    """Return whether the part has a word, or at least a letter of a script without capitals."""
    run = 0
    for character in part:
        kind = unicodedata.category(character)
        if kind == "Lo":
            return True
        run = run + 1 if kind.startswith(("L", "M")) else 0
        if run >= _MIN_WORD:
            return True
    return False
