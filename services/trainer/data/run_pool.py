"""The pool in a training run: what changed is read while the model is trained, and a new version's head answers it at once.

A version is delayed by its setting's seconds at most, and nothing that goes wrong here fails a run: what is missing is predicted on demand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from services.core.domain import Counts
from services.core.errors import FitloopError, Preempted, StoreError
from services.core.features import NO_KEYS, FeatureStore, Keys, key_numbers
from services.core.labels.readable import readable_text
from services.core.pool import PREDICTIONS, Pool, PoolStore
from services.engine.head import FILE, read_head
from services.trainer.data.base_encoder import BaseEncoder
from services.trainer.data.labels import RunLabels
from services.trainer.data.next_texts import spread
from services.trainer.data.pool import MAX_TEXTS, PoolReader, PoolTexts, trained_texts
from services.trainer.data.pool_answers import answer_pool
from services.trainer.data.pool_features import PoolFeatures, fill
from services.trainer.process import Run

_MAX_WAITING: Final = 5000
"""Kept in memory until there is an encoder: more are not computed within seconds."""
_LOOK_SECONDS: Final = 0.2
"""Between two looks whether the run is to end."""
log = structlog.get_logger()


@dataclass(slots=True)
class RunPool:
    """The pool of one run. The thread that reads it begins with the object, and ends with `predict`."""

    run: Run
    project_key: str
    labels: RunLabels
    _pool: Pool | None = None
    """As far as it was read; None until it was loaded."""
    _reader: PoolReader | None = None
    _texts: list[PoolTexts] = field(default_factory=list)
    _loaded: threading.Event = field(default_factory=threading.Event)
    _stored_keys: Keys = field(default_factory=lambda: NO_KEYS)
    _enough: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, name="pool", daemon=True)
        self._thread.start()

    def keys(self) -> Keys:
        """Return (n, 16) the keys of the texts that an earlier run has seen: what is read now does not change what is trained."""
        while not self._loaded.wait(_LOOK_SECONDS):
            self.run.stop.check()
        return self._stored_keys

    def predict(self, folder: Path, load_encoder: Callable[[], BaseEncoder], *, is_base: bool) -> None:
        """Write the answers of the head in `folder` beside it, for tasks with features. Raises Preempted.

        `is_base` False: the encoder is a fine-tuned one, whose features no other version needs: what lacks them is not reported.
        """
        began = time.monotonic()
        try:
            self._predict(folder, load_encoder(), began + self.run.pool_seconds, is_base=is_base)
        except Preempted:
            raise
        except (FitloopError, OSError) as error:
            (folder / PREDICTIONS).unlink(missing_ok=True)
            log.warning("pool_not_predicted", reason=str(error))

    def sample(self) -> list[str]:
        """Return texts of unlabelled tasks, for an estimate: at most MAX_TEXTS, none that a probe was trained on. Raises Preempted.

        Probes are trained on the first ones in the order of their keys.
        """
        if self._pool is None:
            return []
        rows = np.flatnonzero(self._pool.has_text)
        count = min(MAX_TEXTS, len(rows) - trained_texts(len(rows)))
        last = rows[np.argsort(key_numbers(self._pool.keys[rows]))][len(rows) - count :]
        try:
            with self.run.stop.interruptible():
                found = self.run.labels.unlabelled_texts(
                    self.run.request.project_id, self._pool.tasks[last].tolist()
                )
        except Preempted:
            raise
        except FitloopError as error:
            log.warning("pool_not_sampled", reason=str(error))
            return []
        texts = (readable_text(self.labels.space, row) for row in found)
        return [text for text in texts if text is not None]

    def store(self) -> None:
        """Store the pool; what cannot be stored is read again by the next run."""
        if self._pool is not None:
            try:
                PoolStore(self.run.registry.store, self.project_key).write(self._pool)
            except StoreError as error:
                log.warning("pool_not_stored", reason=str(error))

    def _read(self) -> None:
        """Read until `predict` has no more time to wait; what is read then is continued by the next run."""
        counts, index = self.labels.state.counts, self.labels.index
        try:
            known = PoolStore(self.run.registry.store, self.project_key).load()
            reader = PoolReader(self.run.labels, self.run.request.project_id, self.labels.space, known)
            reader.pool = reader.pool.without(index.tasks)
            self._pool, self._stored_keys = reader.pool, reader.pool.keys[reader.pool.has_text]
            self._loaded.set()
            self._read_changes(reader, counts)
            self._reader = reader
        except FitloopError as error:
            log.warning("pool_not_read", reason=str(error))
        finally:
            self._loaded.set()

    def _read_changes(self, reader: PoolReader, counts: Counts) -> None:
        for texts in reader.changes(counts):
            self._pool = reader.pool
            if sum(len(one.texts) for one in self._texts) < _MAX_WAITING:
                self._texts.append(texts)
            if self._enough.is_set():
                return
        self._pool = reader.pool

    def _predict(self, folder: Path, encoder: BaseEncoder, until: float, *, is_base: bool) -> None:
        self._enough.set()
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._pool is None:
            return
        store = FeatureStore(
            self.run.registry.store, self.project_key, encoder.digest, encoder.manifest.width
        )
        features = PoolFeatures(store, encoder.encoder, self.run.stop, encoder.manifest.padded, until)
        for texts in tuple(self._texts):
            features.add(texts)
        if self._reader and not self._thread.is_alive():
            fill(self._reader, features, self.run.stop)
            self._pool = self._reader.pool
        features.flush()
        if is_base:
            self.run.progress.set_pool(features.state(self._pool))
        known = features.features()
        found = answer_pool(self._pool, known, read_head(folder / FILE))
        if len(found):
            spread(found, known, self._pool, self.run.request.parameters.seed).write(folder)
        log.info("pool_predicted", tasks=len(self._pool), predicted=len(found), computed=features.computed)
