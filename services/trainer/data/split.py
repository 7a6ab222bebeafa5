"""What identifies a text, and whether it judges or teaches: pure functions of the text, so that no file remembers them.

Texts that are nearly equal get one side key, and so stand on one side; growing data, edited labels and new task ids move
none of them. Whether two tasks hold the same text is another question, and `text_key` answers that one.
The share that is held out falls at 10,000 and at 40,000 texts: there texts leave the holdout, and none enters it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Final

FOLDS: Final = 5
_SALT: Final = "fitloop1"
_BITS: Final = 256


def text_key(text: str) -> str:
    """64 hex digits that identify a text: the same for texts that are equal after NFC and trimming, and for no others."""
    same = unicodedata.normalize("NFC", text.strip())
    return hashlib.sha256(f"{_SALT} text {same}".encode(errors="surrogatepass")).hexdigest()


def split_key(text: str) -> str:
    """64 hex digits, the same for texts that differ in case, spaces, punctuation and compatibility forms alone.

    A text without a letter or a digit counts with its signs.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(character for character in folded if character.isalnum() or _is_vowel_sign(character))
    counted = letters or "".join(folded.split())
    return hashlib.sha256((_SALT + counted).encode(errors="surrogatepass")).hexdigest()


def split_keys(texts: Sequence[str]) -> list[str]:
    """The side key of each text; where they differ in too little for that to divide them, their text keys."""
    sides = [split_key(text) for text in texts]
    return sides if len(set(sides)) >= FOLDS else [text_key(text) for text in texts]


def _is_vowel_sign(character: str) -> bool:
    """Marks that spell a word, as vowels of Devanagari, Thai or Hebrew; no accents, which case folding may split off."""
    is_mark = unicodedata.category(character) in {"Mn", "Mc"}
    return is_mark and not unicodedata.name(character, "").startswith(("COMBINING", "VARIATION SELECTOR"))


def holdout_percent(texts: int) -> int:
    """Per cent of `texts` distinct texts that are held out."""
    if texts > 40_000:
        return 5
    return 10 if texts > 10_000 else 20


def is_in_holdout(key: str, texts: int) -> bool:
    """Whether a text judges what was trained on the others, among `texts` distinct ones."""
    return int(key, 16) * 100 < holdout_percent(texts) << _BITS


def fold_of(key: str) -> int:
    """The part, 0 to 4, of cross-fitting; digits of the key that the holdout does not look at."""
    fraction = int(key, 16) * 1000 % (1 << _BITS)
    return fraction * FOLDS >> _BITS
