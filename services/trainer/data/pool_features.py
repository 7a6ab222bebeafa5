"""Computes the features of unlabelled texts that have none yet, for as long as there is time, and stores them as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import PoolState
from services.core.features import Features, FeatureStore, Keys, halves_of
from services.core.pool import Pool
from services.engine.compute import batch_budget, plan_batches
from services.engine.encoder import TextEncoder
from services.trainer.data.features import Floats, workers
from services.trainer.data.pool import PoolReader, PoolTexts
from services.trainer.process.lifecycle import Stop

_TEXTS: Final = 256
"""Computed before the time is looked at again: a second of a base-sized model on two cores."""
_WANTED: Final = 1000
"""Texts that are asked for at once."""
_STORE_ROWS: Final = 2048
_STORE_SECONDS: Final = 5.0
"""What is not stored for longer is lost if the process is killed."""


@dataclass(slots=True)
class PoolFeatures:
    """The known features of a project's texts, and those that this run adds. Only one run of a project may have one."""

    store: FeatureStore
    encoder: TextEncoder
    stop: Stop
    padded: bool
    until: float
    """When the time is over, by time.monotonic()."""
    known: Features = field(init=False)
    """What was stored before."""
    computed: int = 0
    """Texts whose features this run has stored."""
    _tried: set[bytes] = field(default_factory=set)
    """Keys of texts that this run has computed, whatever became of them."""
    _waiting: list[tuple[Keys, Floats]] = field(default_factory=list)
    """Not stored yet."""
    _stored: list[tuple[Keys, Floats]] = field(default_factory=list)
    _stored_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.known = self.store.load()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    @property
    def texts(self) -> int:
        """How many texts have features, whichever task shows them."""
        return len(self.known) + self.computed + sum(len(keys) for keys, _ in self._waiting)

    def lacking(self, keys: Keys) -> NDArray[np.bool_]:
        """Return (n,) which of these texts have no features and were not tried; those without a text have no key and lack nothing."""
        lacks = (self.known.rows(keys) < 0) & keys.any(axis=1)
        for row in np.flatnonzero(lacks):
            lacks[row] = keys[row].tobytes() not in self._tried
        return lacks

    def add(self, found: PoolTexts) -> None:
        """Compute the features of those of these texts that lack them, until the time is over. Raises EngineError, StoreError, Preempted."""
        rows = np.flatnonzero(self.lacking(found.keys))
        for start in range(0, len(rows), _TEXTS):
            if self.is_over:
                return
            chosen = rows[start : start + _TEXTS]
            X = self._compute([found.texts[row] for row in chosen])
            self._tried.update(found.keys[row].tobytes() for row in chosen)
            self._waiting.append((found.keys[chosen], X))
            rows_waiting = sum(len(keys) for keys, _ in self._waiting)
            if rows_waiting >= _STORE_ROWS or time.monotonic() - self._stored_at > _STORE_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Store what was computed. Raises StoreError."""
        if self._waiting:
            self.computed += self.store.append(*_joined(self._waiting))
            self._stored += self._waiting
            self._waiting = []
        self._stored_at = time.monotonic()

    def features(self) -> Features:
        """Return the known features and those of this run."""
        if not self._stored:
            return self.known
        keys, X = _joined(self._stored)
        x = np.concatenate([self.known.x, halves_of(X)])
        found = Features.of(np.concatenate([self.known.keys, keys]), x)
        finite = np.isfinite(found.x).all(axis=1)
        return Features(found.keys[finite], found.x[finite])

    def state(self, pool: Pool) -> PoolState:
        """Return what the pool has and lacks."""
        return PoolState(
            tasks=int(pool.has_text.sum()),
            left=int(self.lacking(pool.keys).sum()),
            counted=pool.counted,
            computed=self.computed,
            encoder=self.store.digest,
        )

    def _compute(self, texts: list[str]) -> Floats:
        ids = self.encoder.encode(texts)
        X = np.empty((len(ids), self.encoder.width), np.float32)

        def computed(batch: list[int]) -> tuple[list[int], Floats]:
            self.stop.check()
            return batch, self.encoder.engine.forward([ids[row] for row in batch])

        lengths, budget = [*map(len, ids)], batch_budget(self.encoder.engine.kind)
        with workers(self.encoder.engine.kind) as threads:
            for batch, found in threads.map(computed, plan_batches(lengths, budget, padded=self.padded)):
                X[batch] = found
        return X


def fill(
    reader: PoolReader, features: PoolFeatures, stop: Stop, report: Callable[[int], None] = lambda _: None
) -> None:
    """Compute what the pool's tasks lack, the newest first, until the time is over; their texts are read again.

    `report` is told how many tasks lack nothing any more. Raises LabelStudioError, EngineError, StoreError, Preempted.
    """
    while not features.is_over:
        pool = reader.pool
        lacking = pool.tasks[features.lacking(pool.keys)][::-1]
        if not len(lacking):
            return
        with stop.interruptible():
            texts = reader.texts(lacking[:_WANTED])
        features.add(texts)
        report(len(pool) - len(lacking))


def _joined(parts: list[tuple[Keys, Floats]]) -> tuple[Keys, Floats]:
    return np.concatenate([keys for keys, _ in parts]), np.concatenate([X for _, X in parts])
