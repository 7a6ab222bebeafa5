"""A request in the scheduler's queue, and its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Final, NamedTuple

from services.engine.compute import Scores, TokenIds
from services.engine.model import Model
from services.engine.recent import Known

_FEW_TEXTS: Final = 4
_FEW_CHARACTERS: Final = 16_384


class QueuedText(NamedTuple):
    """A text to compute."""

    length: int
    """In tokens."""
    serial: int
    """Unique, so that comparing two texts never compares `ids`."""
    ids: TokenIds
    request: QueuedRequest
    row: int


class QueuedRequest:
    """A request whose missing rows are being computed. The scheduler's lock guards it."""

    __slots__ = (
        "dequeued",
        "entered",
        "features",
        "finished",
        "future",
        "items",
        "left",
        "model",
        "project_key",
        "rows",
        "texts",
        "waited",
    )

    def __init__(self, model: Model, known: Known, texts: Sequence[str], project_key: str) -> None:
        """`texts` are those of the missing rows."""
        self.model = model
        self.project_key = project_key
        self.rows = known.missing
        self.texts = texts
        self.features = known.features
        self.future: Future[Scores] = Future()
        self.finished = False
        self.items: list[QueuedText] = []
        """Not in a batch yet, by length; none until it is tokenised."""
        self.dequeued = bytearray(len(known.features))
        self.left = len(texts)
        """Rows not answered yet."""
        self.entered = perf_counter()
        """When it was queued."""
        self.waited: float | None = None
        """Seconds until the first batch with one of its texts."""

    def tokenised(self, encoded: Sequence[TokenIds], serials: Iterator[int]) -> None:
        """Take the token ids of its texts."""
        rows = zip(self.rows, encoded, strict=True)
        self.items = sorted(QueuedText(len(ids), next(serials), ids, self, row) for row, ids in rows)

    def anchor(self) -> QueuedText | None:
        """Return the longest text that is not in a batch yet."""
        while self.items and self.dequeued[self.items[-1].row]:
            self.items.pop()
        return self.items[-1] if self.items else None


def is_small(texts: Sequence[str]) -> bool:
    """Return whether an event loop may look these texts up, and an idle stream tokenise them: some microseconds each."""
    return len(texts) <= _FEW_TEXTS and sum(map(len, texts)) <= _FEW_CHARACTERS
