"""Labels in sentences: quoted and truncated, since a label may be a page of text and a label config may have hundreds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.core.labels.markup import truncate

_MOST: Final = 3


def mention(label: str) -> str:
    """Return the label in quotes, cut at 80 characters."""
    return repr(truncate(label))


def mention_all(labels: Sequence[str]) -> str:
    """Return the first three labels in quotes, and how many more there are."""
    listed, more = ", ".join(map(mention, labels[:_MOST])), len(labels) - _MOST
    return f"{listed} and {more} more" if more > 0 else listed
