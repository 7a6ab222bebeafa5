"""How large a document may be that is read whole into memory: by what its key names, in one place.

Another process wrote it, maybe a broken one; whoever reads it must not end for that. Files of models are copied, not read.
"""

from __future__ import annotations

import re
from typing import Final

from services.core.errors import ObjectTooLarge

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
