"""Features of a project's texts: projects/<key>/features/<encoder digest>/<n>.safetensors in the bucket.

A text's features are computed once for each encoder and found again by the text's key; no text is stored. Rows are only
appended, in shards of at most 4,096; shards that are small or mostly of no use are replaced by new ones. One run of a project at
a time writes. A shard that cannot be read is deleted: its texts have no features then, and a run computes them again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from services.core import arrays
from services.core.errors import NotFound, ObjectTooLarge, StoreError
from services.core.store import Entry, ObjectStore

log = structlog.get_logger()
KEY_BYTES: Final = 16
"""Of a text key's 32: no two of a project's texts share so many."""
SHARD_ROWS: Final = 4096
_MAX_SMALL: Final = 16
"""Shards that are less than half full; then they are merged. Each run may append one, and reading one takes a request."""
_SUFFIX: Final = ".safetensors"

Keys = NDArray[np.uint8]
"""(n, 16): the first bytes of text keys."""
NO_KEYS: Final[Keys] = np.empty((0, KEY_BYTES), np.uint8)
Rows = NDArray[np.int64]
Halves = NDArray[np.float16]


def key_array(text_keys: Iterable[str]) -> Keys:
    """Return the first 16 bytes of each text key, which is given as hex digits, as an array (n, 16)."""
    data = b"".join(bytes.fromhex(key[: 2 * KEY_BYTES]) for key in text_keys)
    return np.frombuffer(data, np.uint8).reshape(-1, KEY_BYTES)


def key_numbers(keys: Keys) -> NDArray[np.uint64]:
    """Return (n,) what rows of the label index hold of these keys: the first 8 bytes as a number, never 0."""
    numbers = np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)
    return np.maximum(numbers, np.uint64(1))


def halves_of(x: NDArray[np.floating]) -> Halves:
    """Return the features as float16; infinity where they are beyond its range."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float16)


@dataclass(frozen=True, eq=False)
class Features:
    """Features by text key."""

    keys: Keys
    """(n, 16), sorted, each once."""
    x: Halves
    """(n, d)"""

    @classmethod
    def of(cls, keys: Keys, x: Halves) -> Features:
        """Sort rows by key; of several rows of a key the last one counts."""
        _, last = np.unique(_comparable(keys)[::-1], return_index=True)
        order = len(keys) - 1 - last
        return cls(keys[order], x[order])

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, keys: Keys) -> Rows:
        """Return (m,) the row of each key; -1 for a key without features."""
        return _places(self._sorted, _comparable(keys))

    @cached_property
    def _sorted(self) -> NDArray[np.bytes_]:
        return _comparable(self.keys)


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The stored features of one project for one encoder."""

    store: ObjectStore
    project_key: str
    digest: str
    """Of the encoder."""
    width: int
    """Dimensions of its features; rows of another width are damage."""

    def load(self) -> Features:
        """Return everything that can be read; shards that cannot are deleted. Raises StoreError."""
        return self._read([entry.key for entry in self._entries()])

    def append(self, keys: Keys, x: NDArray[np.floating]) -> int:
        """Store the features (n, d) of these keys as float16, and return how many; those beyond its range are not stored.

        The keys should have none yet: duplicates take room until shards are merged. Raises StoreError.
        """
        halves = halves_of(x)
        finite = np.isfinite(halves).all(axis=1)
        found = Features.of(keys[finite], halves[finite])
        entries = self._entries()
        self._write(found, 1 + max(map(_number, entries), default=0))
        if sum(map(self._is_small, entries)) >= _MAX_SMALL:
            self.merge()
        return len(found)

    def merge(self) -> int:
        """Replace small shards by full ones, and return how many there were; a single one is left as it is. Raises StoreError."""
        small = list(filter(self._is_small, self._entries()))
        if len(small) > 1:
            self._replace(small, self._read([entry.key for entry in small]))
        return len(small)

    def prune(self, kept: NDArray[np.uint64]) -> int:
        """Drop rows whose `key_numbers` are not in `kept` if they are more than half of all; return how many. Raises StoreError."""
        entries = self._entries()
        if sum(map(self._rows_of, entries)) <= 2 * len(kept) + SHARD_ROWS:
            return 0
        found = self._read([entry.key for entry in entries])
        used = np.isin(key_numbers(found.keys), kept)
        self._replace(entries, Features(found.keys[used], found.x[used]))
        return int((~used).sum())

    def _replace(self, entries: list[Entry], features: Features) -> None:
        """Write first, so that a crash leaves duplicates and loses nothing."""
        self._write(features, 1 + max(map(_number, self._entries()), default=0))
        for entry in entries:
            self.store.delete(entry.key)

    def _write(self, features: Features, number: int) -> None:
        for shard, start in enumerate(range(0, len(features), SHARD_ROWS), number):
            rows = slice(start, start + SHARD_ROWS)
            data = arrays.dump({"key": features.keys[rows], "x": features.x[rows]})
            self.store.write(f"{self._prefix}{shard:06d}{_SUFFIX}", data)

    def _read(self, keys: list[str]) -> Features:
        shards = [shard for key in keys if (shard := self._shard(key))]
        none = NO_KEYS, np.empty((0, self.width), np.float16)
        columns = list(zip(none, *shards, strict=True))
        return Features.of(np.concatenate(columns[0]), np.concatenate(columns[1]))

    def _shard(self, key: str) -> tuple[Keys, Halves] | None:
        """Return the keys and the features of a shard; None if it is damaged, or was deleted meanwhile."""
        try:
            tensors, _ = arrays.parse(self.store.read(key), key, {"key": "u1", "x": "f2"})
            rows, x = tensors["key"], tensors["x"]
            if rows.shape != (len(x), KEY_BYTES) or x.shape != (len(x), self.width):
                raise arrays.UnreadableArrays(  # noqa: TRY301  # treated like other damage
                    f"{key} holds arrays of shapes {rows.shape} and {x.shape} for {self.width} features."
                )
        except NotFound:
            return None
        except (arrays.UnreadableArrays, ObjectTooLarge) as error:
            log.warning("features_shard_damaged", key=key, reason=str(error))
            with contextlib.suppress(StoreError):
                self.store.delete(key)
            return None
        return rows, x

    def _entries(self) -> list[Entry]:
        return [one for one in self.store.entries(self._prefix) if one.key.endswith(_SUFFIX)]

    def _is_small(self, entry: Entry) -> bool:
        return self._rows_of(entry) < SHARD_ROWS // 2

    def _rows_of(self, entry: Entry) -> int:
        """Estimate a shard's rows from its size, without reading it."""
        return entry.size // (KEY_BYTES + 2 * self.width)

    @property
    def _prefix(self) -> str:
        return f"projects/{self.project_key}/features/{self.digest}/"


def _number(entry: Entry) -> int:
    name = entry.key.rpartition("/")[2].removesuffix(_SUFFIX)
    return int(name) if name.isdecimal() else 0


def _comparable(keys: Keys) -> NDArray[np.bytes_]:
    """Return (n,) the keys as values that numpy sorts and compares, byte by byte."""
    return np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").ravel()


def _places(known: NDArray[np.generic], wanted: NDArray[np.generic]) -> Rows:
    """Return (m,) where each wanted value is among the sorted known ones; -1 where it is not."""
    places = np.searchsorted(known, wanted)
    inside = places < len(known)
    places[inside] = np.where(known[places[inside]] == wanted[inside], places[inside], -1)
    return np.where(inside, places, -1).astype(np.int64)
