"""The pool of a project, its unlabelled tasks, and a version's predictions for them. Neither holds a text.

projects/<key>/pool.safetensors has each task's text key, and up to which change Label Studio was read, so that a run asks only for
what changed since. versions/<version>/predictions.safetensors has what the version's head answers for the tasks whose features
were known to its run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from services.core import arrays
from services.core.arrays import UnreadableArrays
from services.core.domain import LabelSpace, Manifest, Method
from services.core.errors import CorruptVersion, NotFound, ObjectTooLarge
from services.core.features import KEY_BYTES, Keys, key_numbers
from services.core.registry import Registry
from services.core.store import ObjectStore

log = structlog.get_logger()
MAX_TASKS: Final = 100_000
"""The newest tasks are kept; 24 bytes each. Features of so many texts are 77 MB with 384 dimensions."""
FEATURE_METHODS: Final = frozenset({Method.AUTO, Method.LINEAR_PROBE, Method.LP_FT})
"""Methods of which a version reads features of the base model, so that these are worth computing for all texts."""
PREDICTIONS: Final = "predictions.safetensors"
"""Name of the file in a version's folder."""
MAX_BYTES: Final = 64 << 20
"""Of it: 28 bytes a task, and a bit for each label if a text may have several."""
_STRINGS: Final = ("source", "cursor", "target")
_NUMBERS: Final = ("below", "counted")
_COLUMNS: Final = {"task": "i8", "label": "i4", "p1": "f4", "score": "f4", "text": "u8"}
_CHOSEN: Final = "chosen"
"""One bit a label, where a text may have several."""

TaskIds = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pool:
    """Unlabelled tasks."""

    tasks: TaskIds
    """(n,) ids, ascending."""
    keys: Keys
    """(n, 16) of their texts; zeros for a task without a text that a person could read."""
    source: str = ""
    """`text_source` of the label space that the keys were made for."""
    cursor: str = ""
    """`updated_at` of the task changed last when Label Studio was last read to the end, as it wrote it; "" if it never was."""
    target: str = ""
    """The cursor once the read in progress, of the tasks changed since `cursor`, has come to the end; "" if there is none."""
    below: int = 0
    """That read has seen the tasks with this id and higher ones; 0 if it has seen none."""
    counted: int = 0
    """Label Studio's count of all tasks at the last read to the end."""

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def has_text(self) -> NDArray[np.bool_]:
        """(n,) whether the task shows a text that a person could read: it is predicted then."""
        return np.asarray(self.keys.any(axis=1))

    def merge(self, tasks: TaskIds, keys: Keys) -> Pool:
        """Return a pool with these tasks added, or their keys replaced: the newest MAX_TASKS; of a task given twice the last row."""
        tasks, keys = np.concatenate([self.tasks, tasks]), np.concatenate([self.keys, keys])
        found, last = np.unique(tasks[::-1], return_index=True)
        rows = len(tasks) - 1 - last
        return replace(self, tasks=found[-MAX_TASKS:], keys=keys[rows][-MAX_TASKS:])

    def without(self, tasks: TaskIds) -> Pool:
        """Return a pool without these tasks."""
        kept = ~np.isin(self.tasks, tasks)
        return self if kept.all() else replace(self, tasks=self.tasks[kept], keys=self.keys[kept])


EMPTY: Final = Pool(np.empty(0, np.int64), np.empty((0, KEY_BYTES), np.uint8))


def text_source(space: LabelSpace) -> str:
    """Return a hash of everything in the label config on which a task's text depends."""
    parts = [space.text_tag, space.text_value, sorted(space.text_attributes.items())]
    return hashlib.sha256(json.dumps(parts).encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PoolStore:
    """The stored pool of one project; one run at a time writes it."""

    store: ObjectStore
    project_key: str

    def load(self) -> Pool:
        """Return the stored pool; an empty one if there is none that can be read. Raises StoreError."""
        try:
            found, strings = arrays.parse(self.store.read(self._key), self._key, {"task": "i8", "key": "u1"})
            tasks, keys = found["task"], found["key"]
            if keys.shape != (len(tasks), KEY_BYTES) or (np.diff(tasks) <= 0).any():
                raise UnreadableArrays(f"{self._key} is no pool.")  # noqa: TRY301  # treated like other damage
        except NotFound:
            return EMPTY
        except (UnreadableArrays, ObjectTooLarge) as error:
            log.warning("pool_unreadable", key=self._key, reason=str(error))
            return EMPTY
        source, cursor, target = (strings.get(name, "") for name in _STRINGS)
        below, counted = (int(strings.get(name, 0)) for name in _NUMBERS)
        return Pool(tasks, keys, source, cursor, target, below, counted)

    def write(self, pool: Pool) -> None:
        """Store the pool. Raises StoreError."""
        strings = {name: str(getattr(pool, name)) for name in (*_STRINGS, *_NUMBERS)}
        self.store.write(self._key, arrays.dump({"task": pool.tasks, "key": pool.keys}, strings))

    @property
    def _key(self) -> str:
        return f"projects/{self.project_key}/pool.safetensors"


@dataclass(frozen=True, eq=False)
class PoolPredictions:
    """What one version answers for unlabelled tasks, those first that are to be labelled first."""

    tasks: TaskIds
    """(n,) each once."""
    labels: NDArray[np.int32]
    """(n,) index into the manifest's labels."""
    p1: Floats
    """(n,) probability of that label."""
    scores: Floats
    """(n,) p1 / (p1 + p2), ascending, where p2 is the probability of the second label; 1 for a single label. Tasks that are to be
    labelled first have the lowest scores, which are then not their own (`with_first`)."""
    texts: NDArray[np.uint64]
    """(n,) `key_numbers` of the texts that were answered: a task whose text has another one was edited since."""
    chosen: NDArray[np.uint8] | None = None
    """(n, bytes) a bit for each label, whether it was chosen, where a text may have several or none: `labels` is then the most
    probable one, and `p1` the mean probability of those chosen. None: a text has one label."""

    @classmethod
    def of(cls, tasks: TaskIds, keys: Keys, probabilities: Floats) -> PoolPredictions:
        """Predict from calibrated probabilities (n, labels); rows that are no probabilities are left out."""
        highest = probabilities.max(axis=1)
        usable = (probabilities.min(axis=1) >= 0) & (highest > 0) & (highest < 1.001)  # false for NaN as well
        tasks, texts, rows = tasks[usable], key_numbers(keys[usable]), np.minimum(probabilities[usable], 1)
        labels = rows.argmax(axis=1)
        p1 = np.take_along_axis(rows, labels[:, None], 1)[:, 0]
        p2 = np.partition(rows, -2, axis=1)[:, -2] if rows.shape[1] > 1 else np.zeros_like(p1)
        scores = p1 / (p1 + p2)
        order = np.lexsort((tasks, scores))
        return cls(tasks[order], labels[order].astype(np.int32), p1[order], scores[order], texts[order])

    @classmethod
    def of_several(
        cls, tasks: TaskIds, keys: Keys, probabilities: Floats, thresholds: Floats, scores: Floats
    ) -> PoolPredictions:
        """Predict from independent probabilities (n, labels), of which those >= `thresholds` (labels,) are chosen."""
        usable = (probabilities.min(axis=1) >= 0) & (probabilities.max(axis=1) <= 1)  # false for NaN as well
        order = np.flatnonzero(usable)
        order = order[np.lexsort((tasks[order], scores[order]))]
        found = probabilities[order]
        chosen = found >= thresholds
        p1 = (found * chosen).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)
        labels, texts = found.argmax(axis=1).astype(np.int32), key_numbers(keys[order])
        p1, bits = p1.astype(np.float32), np.packbits(chosen, axis=1)
        return cls(tasks[order], labels, p1, scores[order], texts, bits)

    @classmethod
    def join(cls, parts: Sequence[PoolPredictions]) -> PoolPredictions:
        """Return the predictions for the tasks of all parts, of which there must be one or more of the same version."""
        known = [name for name, column in vars(parts[0]).items() if column is not None]
        columns = {name: np.concatenate([vars(part)[name] for part in parts]) for name in known}
        return replace(parts[0], **columns).take(np.lexsort((columns["tasks"], columns["scores"])))

    def chosen_at(self, row: int) -> list[int]:
        """Return the index of each label that was chosen for one task: of one, unless a text may have several."""
        if self.chosen is None:
            return [int(self.labels[row])]
        return [int(number) for number in np.flatnonzero(np.unpackbits(self.chosen[row]))]

    def __len__(self) -> int:
        return len(self.tasks)

    def with_first(self, rows: NDArray[np.int64]) -> PoolPredictions:
        """Return the predictions with these rows first, in this order; the sorted scores stay, and are given to the new order.

        The first scores differ from each other then: Label Studio orders equal ones as it likes.
        """
        order = np.concatenate([rows, np.setdiff1d(np.arange(len(self)), rows)])
        scores = self.scores.copy()
        for row in range(min(len(rows), len(scores) - 1) - 1, -1, -1):
            scores[row] = min(scores[row], np.nextafter(scores[row + 1], np.float32(0)))
        return replace(self.take(order), scores=scores)

    def take(self, order: NDArray[np.int64]) -> PoolPredictions:
        """Return these rows, in this order."""
        columns = {name: column[order] for name, column in vars(self).items() if column is not None}
        return replace(self, **columns)

    def write(self, folder: Path) -> None:
        """Write predictions.safetensors into the folder of a version that is to be published."""
        columns: dict[str, NDArray[Any]] = {
            "task": self.tasks,
            "label": self.labels,
            "p1": self.p1,
            "score": self.scores,
            "text": self.texts,
        }
        if self.chosen is not None:
            columns[_CHOSEN] = self.chosen
        (folder / PREDICTIONS).write_bytes(arrays.dump(columns))


def pool_predictions(registry: Registry, manifest: Manifest) -> PoolPredictions | None:
    """Return the version's predictions for the pool; None if it has none. Raises CorruptVersion, StoreError."""
    entry = manifest.files.get(PREDICTIONS)
    if entry is None:
        return None
    if entry.size > MAX_BYTES:
        raise CorruptVersion(
            f"{PREDICTIONS} of {manifest.version} has {entry.size} bytes, more than {MAX_BYTES}."
        )
    path = registry.file(manifest.project_key, manifest.version, PREDICTIONS)
    subject = f"File {PREDICTIONS!r} of version {manifest.version}"
    try:
        expected = {**_COLUMNS, _CHOSEN: "u1"} if manifest.multi_label else _COLUMNS
        found, _ = arrays.parse(path.read_bytes(), subject, expected)
        labels, bits = found["label"], found.pop(_CHOSEN, None)
        is_table = labels.ndim == 1 and len({array.shape for array in found.values()}) == 1
        is_table &= bits is None or _are_sets(bits, len(labels), len(manifest.labels))
        if not is_table or not np.isin(labels, np.arange(len(manifest.labels))).all():
            raise UnreadableArrays(f"{subject} is not a list of predictions.")  # noqa: TRY301  # treated like other damage
    except UnreadableArrays as error:
        raise CorruptVersion(f"{error} Roll back or train again.") from error
    return replace(PoolPredictions(*found.values()), chosen=bits)


def _are_sets(bits: NDArray[np.uint8], tasks: int, labels: int) -> bool:
    """Return whether there is a bit for each label of each task, and none beyond them is set."""
    beyond = np.uint8((1 << -labels % 8) - 1)
    return bits.shape == (tasks, -(-labels // 8)) and not (bits[:, -1:] & beyond).any()
