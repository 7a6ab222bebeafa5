"""The label index in the bucket: projects/<key>/labels/.

Immutable segments hold the rows, without texts: a base, and deltas with the changes since, named by the sha256 of their bytes.
head.json says which of them are the index now; the request of a run names its own. Deltas are merged, and folded into a new
base, before reading them costs more than the base. The worker that observes the project is the one writer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import structlog
from safetensors import SafetensorError
from safetensors.numpy import load, save

from services.core import documents
from services.core.domain import LabelSegment, LabelState
from services.core.errors import CorruptLabels, NotFound, ObjectTooLarge, StoreError, UnknownFormat
from services.core.labels.index import EMPTY, LabelDelta, LabelIndex, difference
from services.core.labels.rows import NO_LABEL, ROW, Causes, LabelSet
from services.core.labels.uncounted import Cause
from services.core.store import ObjectStore

log = structlog.get_logger()
_MAX_DELTAS: Final = 16
"""Deltas beside a base; then they are merged into one."""
_SMALL: Final = 1000
"""Rows of deltas that never cause a new base."""
_SUFFIX: Final = ".safetensors"
_REMOVED: Final = "removed"
_YOUNG_SECONDS: Final = 3600.0
"""A segment younger than this is never deleted: the head or the request that names it may not be written yet."""


@dataclass(frozen=True, slots=True)
class LabelStore:
    """The stored label index of one project."""

    store: ObjectStore
    project_key: str

    def head(self) -> LabelState | None:
        """Return the state that was written last; None if there is none that can be read."""
        key = f"{self._prefix}head.json"
        try:
            return documents.load(LabelState, self.store.read(key), key)
        except NotFound:
            return None
        except StoreError as error:
            if error.transient:
                raise
            log.warning("label_head_unreadable", key=key, reason=str(error))
            return None

    def load(self, state: LabelState) -> LabelIndex:
        """Return the index of a state. Raises CorruptLabels if a segment is missing or broken, UnknownFormat, StoreError."""
        if state.format > documents.FORMAT:
            raise UnknownFormat(
                f"The labels of project {self.project_key} have format {state.format}, and this release knows formats up to "
                f"{documents.FORMAT}: upgrade Fitloop."
            )
        index = EMPTY
        for segment in state.segments:
            upserts, removed = self._read(segment)
            index = index.merge(upserts, removed)
        if index.digest != state.digest:
            raise CorruptLabels(
                f"The labels of project {self.project_key} differ from the digest of their state."
            )
        return index.compact()

    def is_complete(self, state: LabelState) -> bool:
        """Return whether all segments of the state exist, whatever their content. Raises StoreError."""
        return {self._key(segment) for segment in state.segments} <= set(self.store.keys(self._prefix))

    def write(
        self, state: LabelState, index: LabelIndex, before: tuple[LabelState, LabelIndex] | None = None
    ) -> LabelState:
        """Store the index and make it the head; return its state: `state` with segments, digest and number of labels.

        `before`: the stored state that the index was made from, and its index; only the difference is written then.
        """
        segments = self._segments(index, before)
        found = replace(state, segments=segments, digest=index.digest, labelled=int(index.labelled.sum()))
        self.store.write(f"{self._prefix}head.json", documents.dump(found))
        return found

    def delete_unreferenced(self, states: Iterable[LabelState], now: float) -> int:
        """Delete segments that none of these states names, and return how many; young ones are kept. Raises StoreError."""
        kept = {self._key(segment) for state in states for segment in state.segments}
        found = [
            entry.key
            for entry in self.store.entries(self._prefix)
            if entry.key.endswith(_SUFFIX) and entry.key not in kept and now - entry.modified > _YOUNG_SECONDS
        ]
        for key in found:
            self.store.delete(key)
        return len(found)

    def _segments(
        self, index: LabelIndex, before: tuple[LabelState, LabelIndex] | None
    ) -> tuple[LabelSegment, ...]:
        if before is None or not before[0].segments:
            return (self._put(_base(index)),)
        (base, *deltas), change = before[0].segments, difference(before[1], index)
        if not len(change):
            return before[0].segments
        if sum(one.rows + one.removed for one in deltas) + len(change) > max(_SMALL, base.rows // 2):
            return (self._put(_base(index)),)
        if len(deltas) < _MAX_DELTAS:
            return (base, *deltas, self._put(change))
        return base, self._put(_merged([*map(self._read, deltas), change]))

    def _put(self, delta: LabelDelta) -> LabelSegment:
        data = _encode(delta)
        found = LabelSegment(
            hashlib.sha256(data).hexdigest(), len(delta.upserts), len(delta.removed), len(data)
        )
        self.store.write(self._key(found), data)
        return found

    def _read(self, segment: LabelSegment) -> LabelDelta:
        key = self._key(segment)
        try:
            data = self.store.read(key)
        except (NotFound, ObjectTooLarge) as error:
            raise CorruptLabels(
                f"{key} is missing or too large: the labels are read from Label Studio again."
            ) from error
        if hashlib.sha256(data).hexdigest() != segment.sha256:
            raise CorruptLabels(f"{key} differs from its name: the labels are read from Label Studio again.")
        return _decode(data, key)

    def _key(self, segment: LabelSegment) -> str:
        return f"{self._prefix}{segment.sha256}{_SUFFIX}"

    @property
    def _prefix(self) -> str:
        return f"projects/{self.project_key}/labels/"


def _base(index: LabelIndex) -> LabelDelta:
    return LabelDelta(index.compact(), np.empty(0, np.int64))


def _merged(deltas: Iterable[LabelDelta]) -> LabelDelta:
    """Return one delta with the effect of several, oldest first."""
    found = LabelDelta(EMPTY, np.empty(0, np.int64))
    for upserts, removed in deltas:
        index = found.upserts.merge(upserts, removed)
        gone = np.setdiff1d(np.union1d(found.removed, removed), index.tasks, assume_unique=True)
        found = LabelDelta(index, gone)
    return LabelDelta(found.upserts.compact(), found.removed)


def _encode(delta: LabelDelta) -> bytes:
    """Return one tensor for each column, the removed tasks, and the tables as metadata."""
    rows, table = delta.upserts.rows, delta.upserts.causes
    columns = {name: np.ascontiguousarray(rows[name]) for name in ROW.names or ()}
    causes = [[[*cause, count] for cause, count in causes] for causes in table]
    tables = {"causes": json.dumps(causes)}
    if delta.upserts.label_sets:
        tables["label_sets"] = json.dumps(delta.upserts.label_sets)
    return save({**columns, _REMOVED: delta.removed}, tables)


def _decode(data: bytes, key: str) -> LabelDelta:
    """Raises CorruptLabels for bytes that a newer release, or something else, wrote."""
    try:
        tensors, (table, label_sets) = load(data), _tables(data)
        rows = np.empty(len(tensors["task"]), ROW)
        for name in ROW.names or ():
            rows[name] = tensors[name]
        if len(rows) and not 0 <= rows["causes"].min() <= rows["causes"].max() < len(table):
            raise ValueError("causes beyond the table")  # noqa: TRY301  # reported like other unreadable bytes
        if (
            label_sets
            and len(rows)
            and not NO_LABEL <= rows["label"].min() <= rows["label"].max() < len(label_sets)
        ):
            raise ValueError("labels beyond the table")  # noqa: TRY301  # treated like other damage below
        return LabelDelta(LabelIndex(rows, table, label_sets), tensors[_REMOVED].astype(np.int64))
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise CorruptLabels(f"{key} is not a segment that this release can read: {error}") from error


def _tables(data: bytes) -> tuple[tuple[Causes, ...], tuple[LabelSet, ...]]:
    """Return the tables of causes and of sets of labels, of which there are none where a text has one label."""
    header: Mapping[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    strings = header["__metadata__"]
    rows, sets = json.loads(strings["causes"]), json.loads(strings.get("label_sets", "[]"))
    causes = (tuple((Cause(reason, found), count) for reason, found, count in causes) for causes in rows)
    return tuple(causes), tuple(tuple(int(label) for label in labels) for labels in sets)
