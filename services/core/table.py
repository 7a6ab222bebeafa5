"""serving.json as a reader sees it: asked for twice a second, never going back to a lower (term, generation).

Adapters that do not lead and predictors read the table by this; the leader has `Registry`. A late write of a leader that
was replaced carries a lower term, and is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core import documents
from services.core.domain import Serving
from services.core.errors import NotFound
from services.core.store import ObjectStore
from services.core.telemetry import metrics

SERVING_KEY = "serving.json"


@dataclass(slots=True)
class ServingTable:
    """What is served, as last read. One thread may call `read`."""

    store: ObjectStore
    last: Serving = Serving()  # noqa: RUF009  # frozen
    _mark: str = ""

    def read(self) -> Serving:
        """The newest table that was seen. Raises StoreError; `last` stays what it was."""
        try:
            found = self.store.read_changed(SERVING_KEY, self._mark)
        except NotFound:
            return self.last
        if found is not None:
            data, mark = found
            table = documents.load(Serving, data, SERVING_KEY)
            self._mark = mark
            if (table.term, table.generation) >= (self.last.term, self.last.generation):
                self.last = table
                metrics.set_generation(table.generation)
        return self.last
