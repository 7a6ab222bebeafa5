"""What identifies a text, and its fold and holdout: pure functions of the text, so that no file has to keep them.

Nearly equal texts have one split key, and so stay together; more data, edited labels and new task ids move none of them.
`core.labels.text_key` is stricter: it decides whether two tasks have the same text.
The share of the holdout falls at 10,000 and at 40,000 texts: texts leave the holdout then, and none enters it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Final

from services.core.labels import text_key

FOLDS: Final = 10
"""Of a method that is cheap to repeat. A fine-tune has FINETUNE_FOLDS, each of them two of these."""
FINETUNE_FOLDS: Final = 5
_SALT: Final = "fitloop1"
_BITS: Final = 256


def split_key(text: str) -> str:
    """Return 64 hex digits that are the same for texts that differ only in case, spaces, punctuation and compatibility forms.

    The punctuation of a text without letters and digits counts.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(character for character in folded if character.isalnum() or _is_vowel_sign(character))
    counted = letters or "".join(folded.split())
    return hashlib.sha256((_SALT + counted).encode(errors="surrogatepass")).hexdigest()


def split_keys(texts: Sequence[str]) -> list[str]:
    """Return the split key of each text; their text keys if there are fewer split keys than a fine-tune's folds."""
    keys = [split_key(text) for text in texts]
    return keys if len(set(keys)) >= FINETUNE_FOLDS else [text_key(text) for text in texts]


def _is_vowel_sign(character: str) -> bool:
    """Return whether a mark spells a word, as vowels of Devanagari, Thai or Hebrew do; accents, which case folding may split off, do not."""
    is_mark = unicodedata.category(character) in {"Mn", "Mc"}
    return is_mark and not unicodedata.name(character, "").startswith(("COMBINING", "VARIATION SELECTOR"))


def holdout_percent(texts: int) -> int:
    """Return the holdout's share in per cent for this many distinct texts."""
    if texts > 40_000:
        return 5
    return 10 if texts > 10_000 else 20


def is_in_holdout(key: str, texts: int) -> bool:
    """Return whether a text is in the holdout of this many distinct texts."""
    return int(key, 16) * 100 < holdout_percent(texts) << _BITS


def fold_of(key: str, folds: int = FOLDS) -> int:
    """Return the fold, from 0 on, by digits of the key that the holdout does not use."""
    fraction = int(key, 16) * 1000 % (1 << _BITS)
    return fraction * folds >> _BITS
