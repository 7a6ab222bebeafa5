"""Features of texts that were computed in the last minutes: Label Studio asks again for the task that it shows.

They are kept by encoder and text, so that another version of the project, or another project, has them as well. Small requests
only: those of whole projects would push out what people look at.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.engine import metrics
from services.engine.compute import Features
from services.engine.loading import EncoderKey

MAX_TEXTS: Final = 32
"""Of a request whose texts are looked up and kept."""
SECONDS: Final = 300.0
MAX_BYTES: Final = 16 << 20
_OVERHEAD: Final = 400
"""Bytes of an entry beside its features."""
_Key = tuple[EncoderKey, bytes]


@dataclass(frozen=True, slots=True)
class Known:
    """The features of a request's texts, as far as they are known."""

    features: Features
    """(texts, d); the missing rows are filled in by whoever computes them."""
    missing: Sequence[int]
    """Rows to compute."""
    keys: Sequence[_Key] = ()
    """Of all rows, if they are to be kept."""


class RecentFeatures:
    """Thread-safe; at most `max_bytes`, for at most `seconds`."""

    def __init__(
        self, clock: Callable[[], float], max_bytes: int = MAX_BYTES, seconds: float = SECONDS
    ) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._rows: OrderedDict[_Key, tuple[float, Features]] = OrderedDict()
        """When it was computed, and the features (d,); the oldest first."""
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, encoder: EncoderKey, texts: Sequence[str], width: int) -> Known:
        """Return what is known of these texts."""
        features: Features = np.empty((len(texts), width), np.float32)
        if len(texts) > MAX_TEXTS:
            return Known(features, range(len(texts)))
        keys = [(encoder, _digest(text)) for text in texts]
        with self._lock:
            self._expire()
            found = [self._rows.get(key) for key in keys]
        missing = []
        for row, known in enumerate(found):
            if known is None:
                missing.append(row)
            else:
                features[row] = known[1]
        metrics.count_recent(len(texts) - len(missing), len(missing))
        return Known(features, missing, keys)

    def keep(self, known: Known) -> None:
        """Keep the rows that were missing, which are computed now."""
        now = self._clock()
        with self._lock:
            for row in known.missing if known.keys else ():
                key, features = known.keys[row], known.features[row].copy()
                if key not in self._rows:
                    self._bytes += features.nbytes + _OVERHEAD
                    self._rows[key] = (now, features)
            while self._bytes > self._max_bytes:
                self._drop_oldest()

    def _expire(self) -> None:
        since = self._clock() - self._seconds
        while self._rows and next(iter(self._rows.values()))[0] <= since:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, (_, features) = self._rows.popitem(last=False)
        self._bytes -= features.nbytes + _OVERHEAD


def _digest(text: str) -> bytes:
    # Of the text as it is, not of its text key: tokens may depend on what NFC and trimming remove.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
