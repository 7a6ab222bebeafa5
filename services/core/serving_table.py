"""The serving table: serving.json in the bucket, the one object that changes and says what every project serves.

Only the leader writes it, and stores each generation beside it, so that the greatest one is found again after any crash.
Followers and predictors poll it.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from services.core import documents
from services.core.domain import Serving
from services.core.errors import NotFound, ObjectTooLarge, StoreError, UnknownFormat, UnreadableDocument
from services.core.store import ObjectStore
from services.core.telemetry import metrics

log = structlog.get_logger()
_Document = TypeVar("_Document")
SERVING_KEY: Final = "serving.json"
_GENERATION: Final = re.compile(r"^serving/(\d+)-")
_KEPT_GENERATIONS: Final = 100


@dataclass(slots=True)
class ServingTableFile:
    """serving.json and its generations, for the leader, which alone may write. Only one thread may use it."""

    store: ObjectStore
    _generations: list[str] | None = None
    """The keys of the stored generations, oldest first; None before they were listed, once."""
    _seen: Serving | None = None
    _mark: str = ""

    def newest(self) -> Serving:
        """Return the newest table, whatever a late or broken write left in serving.json.

        Raises UnknownFormat if a newer release wrote it, StoreError if there are tables and none can be read.
        """
        keys = (SERVING_KEY, *self._list()[-3:])
        known = [table for key in keys if (table := load_or_none(Serving, self.store, key))]
        if not known and any(self._exists(key) for key in keys):
            raise StoreError(
                f"{self.store.url} has no readable serving table ({', '.join(keys)}): restore one of these "
                "from a backup, or delete them and promote a version by hand."
            )
        return max(known, key=lambda table: (table.term, table.generation), default=Serving())

    def last_term(self, newest: Serving) -> int:
        """Return the greatest term of any table, readable or not; 0 before the first."""
        terms = [int(match[1]) for key in self._list()[-1:] if (match := _GENERATION.match(key))]
        return max([newest.term, *terms])

    def write(self, serving: Serving) -> None:
        """Store the generation, then make it the current table. Raises StoreError, and then either may have happened."""
        generations, self._generations = self._list(), None
        key, data = f"serving/{serving.term:08d}-{serving.generation:08d}.json", documents.dump(serving)
        self.store.write(key, data)
        self.store.write(SERVING_KEY, data)
        self._generations = sorted({*generations, key})
        if len(self._generations) > _KEPT_GENERATIONS:  # one more each time: the writer waits for each
            with contextlib.suppress(StoreError):  # the next term lists it again
                self.store.delete(self._generations.pop(0))

    def current(self) -> Serving | None:
        """Return the content of serving.json, late writes included; None if it is missing or broken. Parses changes only."""
        try:
            found = self.store.read_changed(SERVING_KEY, self._mark)
        except (NotFound, ObjectTooLarge) as error:
            self._seen, self._mark = None, ""
            if isinstance(error, ObjectTooLarge):
                log.error("document_skipped", key=SERVING_KEY, reason=str(error))
        else:
            if found is not None:
                self._seen, self._mark = _parse_or_none(Serving, found[0], SERVING_KEY), found[1]
        return self._seen

    def _list(self) -> list[str]:
        if self._generations is None:
            self._generations = list(self.store.keys("serving/"))
        return self._generations

    def _exists(self, key: str) -> bool:
        with contextlib.suppress(NotFound):
            self.store.read(key)
            return True
        return False


def load_or_none(kind: type[_Document], store: ObjectStore, key: str) -> _Document | None:
    """Return the document; None if it is missing or broken, so that it does not block the others. Raises UnknownFormat."""
    try:
        return _parse_or_none(kind, store.read(key), key)
    except NotFound:
        return None
    except ObjectTooLarge as error:
        log.error("document_skipped", key=key, reason=str(error))
        return None


def _parse_or_none(kind: type[_Document], data: bytes, key: str) -> _Document | None:
    try:
        return documents.load(kind, data, key)
    except UnknownFormat:
        raise
    except UnreadableDocument as error:
        log.error("document_skipped", key=key, reason=str(error))
        return None


@dataclass(slots=True)
class ServingTableReader:
    """The serving table as last read. Only one thread may call `read`."""

    store: ObjectStore
    last: Serving = Serving()  # noqa: RUF009  # frozen
    _mark: str = ""

    def read(self) -> Serving:
        """Return the newest table seen. Raises StoreError; `last` stays unchanged."""
        try:
            found = self.store.read_changed(SERVING_KEY, self._mark)
        except NotFound:
            return self.last
        if found is not None:
            table = documents.load(Serving, found[0], SERVING_KEY)
            self._mark = found[1]
            if (table.term, table.generation) >= (self.last.term, self.last.generation):
                self.last = table
                metrics.set_generation(table.generation)
        return self.last
