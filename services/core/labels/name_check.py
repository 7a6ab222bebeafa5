"""Which label names say something about a text. Pure.

A name without a word of its own, such as "1", "B" or "class 2" beside "class 3", says nothing: suggestions from it would be noise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from services.core.domain import LabelSpace
from services.core.labels.mentions import mention_all
from services.core.labels.names import label_names

_MIN_LETTERS: Final = 2
_ROMAN: Final = re.compile(r"[ivx]+")
_WORD_CHARACTERS: Final = (("\u3040", "\ud7a3"), ("\U00020000", "\U0003ffff"))
"""Kana, Chinese characters and Hangul syllables: one of them may be a word."""
_NONE: Final = "There are no suggestions before the first labels"
_REMEDY: Final = 'Describe them in the label config, for example `<Choice value="1" hint="wants a refund"/>`.'


def telling_names(names: Sequence[str]) -> tuple[bool, ...]:
    """Return of each name whether it has a word that not all names have: no number, and no single letter of an alphabet."""
    words = [set(_words(name)) for name in names]
    shared = set.intersection(*words) if len(words) > 1 else set()
    return tuple(any(_is_telling(word) for word in own - shared) for own in words)


def names_problem(space: LabelSpace) -> str:
    """Return why no suggestions can be made from the label names alone, and what to do; "" if they can."""
    if space.control_tag == "Rating":
        return f"{_NONE}: a rating is a number, which says nothing about a text."
    telling = telling_names(label_names(space))
    if len(telling) < 2:
        return f"{_NONE}: the label config offers no two labels."
    if sum(telling) >= max(2, len(telling) / 2):
        return ""
    silent = [label for label, tells in zip(space.labels, telling, strict=True) if not tells]
    return (
        f"{_NONE}: the names of {len(silent)} of {len(telling)} labels say nothing about a text "
        f"({mention_all(silent)}). {_REMEDY}"
    )


def _words(name: str) -> Iterator[str]:
    """Yield the runs of letters with their marks, without which words of many scripts fall apart."""
    word = ""
    for character in unicodedata.normalize("NFKC", name).casefold():
        if unicodedata.category(character)[0] in "LM":
            word += character
        elif word:
            yield word
            word = ""
    if word:
        yield word


def _is_telling(word: str) -> bool:
    letters = [character for character in word if unicodedata.category(character)[0] == "L"]
    is_word = any(low <= character <= high for character in letters for low, high in _WORD_CHARACTERS)
    return is_word or (len(letters) >= _MIN_LETTERS and not _ROMAN.fullmatch(word))
