"""The serving table: which version each project serves, and which one is its target.

serving.json is written by the leader alone: read at the start of a term, then kept in memory. `term` is one more than any table
was ever written in, and is part of every write, so that readers ignore what a replaced leader writes late; `repair` writes the
table again over such a write. Only the controller's thread may call this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.state.documents import NotLeading
from services.core.domain import Served, Serving
from services.core.errors import (
    StoreError,
    UnknownFormat,
)
from services.core.registry import Registry
from services.core.retry import LogOnce
from services.core.serving_table import ServingTableFile
from services.core.telemetry import metrics

log = structlog.get_logger()
_REPAIR_SECONDS: Final = 3.0


class StaleTerm(NotLeading):
    """Another process has written in a later term: this table is out of date."""


@dataclass(slots=True)
class ServingTableWriter:
    """The table of one term."""

    registry: Registry
    term: int = 0
    """0 before the table was read."""
    _file: ServingTableFile = field(init=False)
    _table: Serving | None = None
    _repair_at: float = 0.0
    _logged: LogOnce = field(default_factory=LogOnce)

    def __post_init__(self) -> None:
        self._file = ServingTableFile(self.registry.store)

    def served(self, project_key: str) -> Served:
        """Return the project's row. Raises StoreError, StaleTerm."""
        return self.table().projects.get(project_key, Served())

    def table(self) -> Serving:
        """Return the table, in this term. Raises StoreError, StaleTerm."""
        if self._table is None:
            found = self._file.newest()
            self.term = self.term or self._file.last_term(found) + 1
            if found.term > self.term:
                raise StaleTerm(
                    f"Another adapter leads in term {found.term}, and this one led in {self.term}."
                )
            self._table = replace(found, term=self.term)
            metrics.set_generation(found.generation)
        return self._table

    def update_row(self, project_key: str, change: Callable[[Served], Served]) -> None:
        """Change the project's row and write the table. Raises StoreError."""
        projects = self.table().projects
        self._write({**projects, project_key: change(projects.get(project_key, Served()))})

    def drop_project(self, project_id: int, but: str = "") -> None:
        """Drop the rows of a deleted project, and of those that had its id before. Raises StoreError.

        `but`: the key of the project that has the id now.
        """
        projects = self.table().projects
        dropped = {key for key in projects if key.partition("-")[0] == str(project_id) and key != but}
        if dropped:
            self._write({key: served for key, served in projects.items() if key not in dropped})
            log.info("project_dropped", project=project_id)

    def repair(self, now: float) -> None:
        """Every few seconds, rewrite serving.json if it differs from this table. Raises StaleTerm; other errors are retried."""
        if now < self._repair_at:
            return
        self._repair_at = now + _REPAIR_SECONDS
        try:
            self._repair()
        except NotLeading:
            raise
        except UnknownFormat as error:
            raise StaleTerm(f"Another adapter leads, of a newer release: {error}") from error
        except StoreError as error:
            if self._logged.is_new(str(error)):
                log.warning("serving_table_check_failed", reason=str(error))
        else:
            self._logged.resolved()

    def _repair(self) -> None:
        own, seen = self.table(), self._file.current()
        if seen is None or (seen.term, seen.generation) != (own.term, own.generation):
            if seen and seen.term > own.term:
                raise StaleTerm(f"Another adapter leads in term {seen.term}, and this one led in {own.term}.")
            self._write(own.projects)

    def _write(self, projects: dict[str, Served]) -> None:
        table = self.table()
        changed = replace(table, generation=table.generation + 1, projects=projects)
        self._table = None  # a write that fails half-way may have made a generation: then it is read again
        self._file.write(changed)
        self._table = changed
        metrics.set_generation(changed.generation)
