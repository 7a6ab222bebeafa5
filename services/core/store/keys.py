"""What is a key: the same in a folder and in a bucket, so that no process writes what another cannot read. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from services.core.errors import ObjectTooLarge, StoreError

MAX_KEY_BYTES: Final = 900
"""Bytes of a key: S3 takes 1,024, the store's prefix among them."""

_MAX_PART_BYTES: Final = 200
"""Bytes between two slashes: a file's name takes 255, and one that is being written has more."""

_RESERVED: Final = frozenset({"", ".", ".."})

PARTIAL: Final = ".partial-"
"""Begins the name of a file that is still being written; such names are never listed."""


def check_key(key: str) -> str:
    """The key. Raises StoreError where it is none."""
    if problem := _problem(key, key.split("/")):
        raise StoreError(f"{key[:80]!r} is not a key: {problem}.")
    return key


def check_prefix(prefix: str) -> str:
    """The beginning of keys, "" among them. Raises StoreError where no key begins with it."""
    *parts, _ = prefix.split("/")
    if problem := _problem(prefix, parts):
        raise StoreError(f"{prefix[:80]!r} is the beginning of no key: {problem}.")
    return prefix


def _problem(text: str, parts: list[str]) -> str:
    if any(part in _RESERVED for part in parts):
        return "keys are relative, and no part between two '/' is empty, '.' or '..'"
    if any(part.startswith(PARTIAL) for part in parts):
        return f"no part may begin with {PARTIAL!r}, as files do that are still being written"
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text) or "\\" in text:
        return "it holds a control character or a backslash"
    size = max(map(len, (part.encode() for part in parts)), default=0)
    if len(text.encode()) > MAX_KEY_BYTES or size > _MAX_PART_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes, or a part of it than {_MAX_PART_BYTES}"
    return ""


_MB: Final = 1 << 20

_DEFAULT: Final = 64 * _MB

_LIMITS: Final = (
    (re.compile(r"^runs/[^/]+/(status|launch)\.json$"), 1 * _MB),
    (re.compile(r"^runs/[^/]+/log\.txt$"), 4 * _MB),
    (re.compile(r"^runs/[^/]+/snapshot\.json$"), 256 * _MB),  # a line for each of some million labelled tasks
    (re.compile(r"^runs/[^/]+/checkpoints/"), 4096 * _MB),  # a trainer's own
    (re.compile(r"^inbox/"), 1 * _MB),
    (re.compile(r"^serving"), 16 * _MB),  # 82 kB for 500 projects
    (re.compile(r"^projects/[^/]+/(project|connection)\.json$"), 16 * _MB),  # with the label config
    (re.compile(r"^projects/[^/]+/verdicts/"), 1 * _MB),
)


def max_bytes(key: str) -> int:
    """Bytes of the object that are read at most."""
    return next((most for pattern, most in _LIMITS if pattern.match(key)), _DEFAULT)


def object_too_large(key: str, url: str, size: int) -> ObjectTooLarge:
    """The error that names object, size and limit."""
    return ObjectTooLarge(
        f"{key!r} in {url} has {size / _MB:.1f} MB, and no more than {max_bytes(key) // _MB} MB of such an object are read: "
        "delete it, or put back what was there."
    )
