"""`LabelStudioMLBase`, as the library documents it: built for each project, with values that are kept in MODEL_DIR."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

MODEL_DIR = os.getenv("MODEL_DIR", ".")


@contextmanager
def _cache() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(os.path.join(MODEL_DIR, "cache.db"))) as found, found:  # noqa: PTH118
        found.execute(
            "CREATE TABLE IF NOT EXISTS cache (project_id TEXT, key TEXT, value TEXT, PRIMARY KEY (project_id, key))"
        )
        yield found


class LabelStudioMLBase:
    """The base of all model classes."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.has("model_version"):
            self.set("model_version", "0.0.1")
        self.setup()

    def setup(self) -> None:
        """Load what the class needs."""

    def predict(self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **_: Any) -> Any:
        """Answer nothing."""

    def fit(self, event: str, data: dict[str, Any], **_: Any) -> Any:
        """Learn nothing."""

    def get(self, key: str) -> str | None:
        with _cache() as cache:
            row = cache.execute(
                "SELECT value FROM cache WHERE project_id = ? AND key = ?", (self.project_id, key)
            ).fetchone()
        return None if row is None else str(row[0])

    def set(self, key: str, value: str) -> None:
        with _cache() as cache:
            cache.execute("REPLACE INTO cache VALUES (?, ?, ?)", (self.project_id, key, value))

    def has(self, key: str) -> bool:
        return self.get(key) is not None
