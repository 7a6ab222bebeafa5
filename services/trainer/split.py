"""Which texts judge and which teach: a pure function of the text, so that no file remembers it.

Equal texts get one key, and so stand on one side; growing data, edited labels and new task ids move none of them.
The share that is held out falls at 10,000 and at 40,000 texts: there texts leave the holdout, and none enters it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

FOLDS: Final = 5
_SALT: Final = "fitloop1"
_BITS: Final = 256


def text_key(text: str) -> str:
    """64 hex digits, the same for texts that differ in case, spaces, punctuation and compatibility forms alone."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(character for character in folded if character.isalnum())
    return hashlib.sha256((_SALT + letters).encode()).hexdigest()


def hold_percent(texts: int) -> int:
    """Per cent of `texts` distinct texts that are held out."""
    if texts > 40_000:
        return 5
    return 10 if texts > 10_000 else 20


def is_held_out(key: str, texts: int) -> bool:
    """Whether a text judges what was trained on the others, among `texts` distinct ones."""
    return int(key, 16) * 100 < hold_percent(texts) << _BITS


def fold_of(key: str) -> int:
    """The part, 0 to 4, of cross-fitting; digits of the key that the holdout does not look at."""
    fraction = int(key, 16) * 1000 % (1 << _BITS)
    return fraction * FOLDS >> _BITS
