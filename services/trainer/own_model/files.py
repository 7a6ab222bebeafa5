"""What a class of the operator's has in its MODEL_DIR: how large it is, and whether `fit` has changed it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from services.core.errors import BadData
from services.core.immutable import entry_of

_SQLITE: Final = b"SQLite format 3\0"
_JOURNALS: Final = ("-journal", "-wal", "-shm")
"""Ends of the names of files that SQLite keeps beside a database."""


def contents(folder: Path) -> dict[str, str]:
    """Map the path of each file to a digest of its content; of a database to one of its rows.

    The library's `set` writes the same values into a database again, which changes its bytes.
    """
    return {path.relative_to(folder).as_posix(): _digest(path) for path in _files(folder)}


def check_size(folder: Path, most_mb: float, model: str) -> None:
    """Raise BadData if the files are larger than FITLOOP_MODEL_FILES_MB allows: they would be published with each version."""
    size = sum(path.stat().st_size for path in _files(folder))
    if size > most_mb * 1e6:
        raise BadData(
            f"{model} left {size / 1e6:.0f} MB in MODEL_DIR, more than FITLOOP_MODEL_FILES_MB ({most_mb:g}): let `fit` delete what "
            "`predict` does not need, such as checkpoints, or raise the limit."
        )


def _files(folder: Path) -> Iterator[Path]:
    return (
        path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(_JOURNALS)
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        is_database = file.read(len(_SQLITE)) == _SQLITE
    if is_database:
        try:
            return _digest_of_rows(path)
        except sqlite3.Error:
            pass  # not one after all, or in use: its bytes say whether it has changed
    return entry_of(path).sha256


def _digest_of_rows(path: Path) -> str:
    found = hashlib.sha256()
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name")
        for name, sql in tables.fetchall():
            quoted = str(name).replace('"', '""')
            rows = sorted(map(repr, database.execute(f'SELECT * FROM "{quoted}"')))  # noqa: S608  # a table's own name
            found.update(repr((name, sql, rows)).encode())
    return found.hexdigest()
