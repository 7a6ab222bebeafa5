"""Whether `fit` has changed MODEL_DIR: by bytes, and of databases by rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from services.core.errors import BadData
from services.trainer.own_model.files import check_size, contents


def _write(path: Path, *rows: tuple[str, str]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value TEXT)")
        database.executemany("INSERT OR REPLACE INTO cache VALUES (?, ?)", rows)


def test_files_are_compared_by_content(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/model.bin").write_bytes(b"a")
    before = contents(tmp_path)
    (tmp_path / "deep/model.bin").write_bytes(b"a")
    assert contents(tmp_path) == before
    assert before.keys() == {"deep/model.bin"}
    (tmp_path / "deep/model.bin").write_bytes(b"b")
    assert contents(tmp_path) != before


def test_a_database_is_compared_by_rows(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    _write(path, ("version", "1"), ("label", "sport"))
    before, size = contents(tmp_path), path.read_bytes()
    _write(path, ("label", "politics"))
    changed = contents(tmp_path)
    _write(path, ("label", "sport"))
    assert path.read_bytes() != size
    assert changed != before
    assert contents(tmp_path) == before


def test_what_only_looks_like_a_database_is_compared_by_content(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(b"SQLite format 3\0 and no more")
    before = contents(tmp_path)
    path.write_bytes(b"SQLite format 3\0 and something else")
    assert contents(tmp_path) != before


def test_journals_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "cache.db-journal").write_bytes(b"a")
    assert contents(tmp_path) == {}


def test_the_limit_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(1_500_000))
    check_size(tmp_path, 2.0, "a:B")
    with pytest.raises(
        BadData, match=r"a:B left 2 MB in MODEL_DIR, more than FITLOOP_MODEL_FILES_MB \(1\.4\)"
    ):
        check_size(tmp_path, 1.4, "a:B")
