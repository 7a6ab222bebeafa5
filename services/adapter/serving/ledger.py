"""serving.json in the hands of the one process that may write it: read at the start of a term, then kept in memory.

`term` is one more than any table was ever written in, and stands in all that is written, so that readers pass over what
a replaced leader writes late; `mend` writes the table again where such a write stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.adapter.state.documents import NotLeading
from services.core.domain import Served, Serving
from services.core.errors import StoreError, UnknownFormat
from services.core.registry import Registry
from services.core.telemetry import metrics

log = structlog.get_logger()
_REPAIR_SECONDS: Final = 3.0


class StaleTerm(NotLeading):
    """Another process has written in a later term: what is known here is of yesterday."""


@dataclass(slots=True)
class ServingTableWriter:
    """The table of one term."""

    registry: Registry
    term: int = 0
    """0 before the table was read."""
    _table: Serving | None = None
    _repair_at: float = 0.0
    _trouble: str = ""

    def served(self, project_key: str) -> Served:
        """What the project serves. Raises StoreError, Overtaken."""
        return self.table().projects.get(project_key, Served())

    def table(self) -> Serving:
        """The table, in this term. Raises StoreError, Overtaken."""
        if self._table is None:
            found = self.registry.serving()
            self.term = self.term or self.registry.last_term() + 1
            if found.term > self.term:
                raise StaleTerm(
                    f"Another adapter leads in term {found.term}, and this one led in {self.term}."
                )
            self._table = replace(found, term=self.term)
            metrics.set_generation(found.generation)
        return self._table

    def propose(self, project_key: str, change: Callable[[Served], Served]) -> None:
        """Write what the project serves. Raises StoreError."""
        projects = self.table().projects
        self._write({**projects, project_key: change(projects.get(project_key, Served()))})

    def drop_project(self, project_id: int, but: str = "") -> None:
        """Label Studio has deleted the project: nothing is served for it, nor for those that had its number before.

        `but`: the key of the project that has the number now. Raises StoreError.
        """
        projects = self.table().projects
        gone = {key for key in projects if key.partition("-")[0] == str(project_id) and key != but}
        if gone:
            self._write({key: served for key, served in projects.items() if key not in gone})
            log.info("a project is served no more", project=project_id)

    def repair(self, now: float) -> None:
        """Every few seconds: have serving.json say what is known here. Raises Overtaken; other trouble is tried again."""
        if now < self._repair_at:
            return
        self._repair_at = now + _REPAIR_SECONDS
        trouble = ""
        try:
            self._repair()
        except NotLeading:
            raise
        except UnknownFormat as error:
            raise StaleTerm(f"Another adapter leads, of a newer release: {error}") from error
        except StoreError as error:
            trouble = str(error)
            if trouble != self._trouble:  # said once, and not every few seconds
                log.warning("what is served could not be checked", reason=trouble)
        self._trouble = trouble

    def _repair(self) -> None:
        own, seen = self.table(), self.registry.read_current_table()
        if seen is None or (seen.term, seen.generation) != (own.term, own.generation):
            if seen and seen.term > own.term:
                raise StaleTerm(f"Another adapter leads in term {seen.term}, and this one led in {own.term}.")
            self._write(own.projects)

    def _write(self, projects: dict[str, Served]) -> None:
        table = self.table()
        changed = replace(table, generation=table.generation + 1, projects=projects)
        self._table = None  # a write that fails half-way may have made a generation: then it is read again
        self.registry.write_serving(changed)
        self._table = changed
        metrics.set_generation(changed.generation)
