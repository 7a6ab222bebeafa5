"""encoders.json: what the leader has seen below encoders/, and which versions need it. Any replica may read it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from services.core import documents
from services.core.documents import FORMAT
from services.core.errors import NotFound, UnreadableDocument
from services.core.store import ObjectStore

ENCODERS_KEY: Final = "encoders.json"
_FRESH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class EncoderStatus:
    """An encoder that is in the bucket, or that a version needs."""

    digest: str
    base_model: str = ""
    engine: str = ""
    """`ct2-int8`, `ort-int8` or `torch-fp32`; "" if its manifest cannot be read."""
    engine_reason: str = ""
    """With the figures of int8 against fp32."""
    size: int = 0
    """In bytes; 0 if it is not in the bucket."""
    created_at: float = 0.0
    problem: str = ""
    """What is wrong with it and what to do; "" if nothing is."""
    needed: int = 0
    """How many versions need it."""
    versions: tuple[str, ...] = ()
    """The first of them, as `<project>/<version>`."""
    fate: str = "kept"
    """`kept`, `retired`, `waiting` or `deleted`, with the reason in `why`."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class EncodersDocument:
    """encoders.json."""

    encoders: tuple[EncoderStatus, ...] = ()
    format: int = FORMAT


@dataclass(slots=True)
class EncoderStatusWriter:
    """Writes encoders.json when it has changed."""

    store: ObjectStore
    _written: tuple[EncoderStatus, ...] | None = None
    """What it says; None before it was read."""

    def write(self, encoders: tuple[EncoderStatus, ...]) -> None:
        """Store what was seen. Raises StoreError, and then the next call writes it."""
        if self._written is None:
            self._written = EncoderStatusReader(self.store).read()
        if encoders != self._written:
            self.store.write(ENCODERS_KEY, documents.dump(EncodersDocument(encoders)))
            self._written = encoders


@dataclass(slots=True)
class EncoderStatusReader:
    """Reads encoders.json at most every two seconds. Thread-safe; blocking: call it in a thread."""

    store: ObjectStore
    _known: tuple[EncoderStatus, ...] = ()
    _mark: str = ""
    _read_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> tuple[EncoderStatus, ...]:
        """Return all encoders; none before a leader has listed them, or if a newer release did. Raises StoreError."""
        with self._lock:
            if time.monotonic() - self._read_at >= _FRESH_SECONDS:
                self._refresh()
                self._read_at = time.monotonic()
            return self._known

    def find(self, digest: str) -> EncoderStatus | None:
        """Return one encoder; None if it is not known yet. Raises StoreError."""
        return next((one for one in self.read() if one.digest == digest), None)

    def _refresh(self) -> None:
        try:
            found = self.store.read_changed(ENCODERS_KEY, self._mark)
            if found is not None:
                self._known = documents.load(EncodersDocument, found[0], ENCODERS_KEY).encoders
                self._mark = found[1]
        except (NotFound, UnreadableDocument):
            self._known, self._mark = (), ""
