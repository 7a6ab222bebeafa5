"""Files of what is stored immutably in folders: versions and encoders."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file: lower-case hex sha256, and size in bytes."""

    sha256: str
    size: int
