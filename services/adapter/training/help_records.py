"""One record for each recent annotation that was made with a suggestion, or without one on purpose. They hold no text.

projects/<key>/help.safetensors has the newest of them. A blind text has a prediction without a result, so Label Studio shows none;
what the model would have answered stays on this side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from services.adapter.suggestions import is_blind
from services.core import arrays
from services.core.arrays import UnreadableArrays
from services.core.domain import LabelSpace
from services.core.errors import NotFound, ObjectTooLarge
from services.core.labels import parse_labels
from services.core.labels.annotations import exclusion_cause, parse_timestamp
from services.core.labels.readable import readable_text
from services.core.store import ObjectStore

log = structlog.get_logger()
Records = NDArray[np.void]
RECORD: Final = np.dtype(
    [
        ("annotation", "<i8"),
        ("made_at", "<u4"),
        ("annotator", "<i4"),
        ("seconds", "<f4"),
        ("p1", "<f4"),
        ("blind", "u1"),
        ("answer", "u1"),
    ]
)
"""26 bytes; `seconds` is NaN if unknown."""
UNKNOWN, WRONG, RIGHT = 0, 1, 2
"""Values of `answer`: whether the annotation agrees with what was suggested, or would have been."""
EMPTY: Final = np.empty(0, RECORD)
WINDOW_SECONDS: Final = 28 * 86_400.0
MAX_RECORDS: Final = 10_000
_MOST_SECONDS: Final = 3600.0
"""A longer annotation was a break."""
_COLUMNS: Final = {name: RECORD[name].str[1:] for name in RECORD.names or ()}


class Made(NamedTuple):
    """An annotation with the prediction that its annotator was shown."""

    task: Mapping[str, Any]
    annotation: Mapping[str, Any]
    prediction: Mapping[str, Any]
    blind: bool


def made_with_predictions(space: LabelSpace, tasks: Iterable[Mapping[str, Any]], share: float) -> list[Made]:
    """Return the annotations that count and followed a prediction: one with labels, or one without.

    That is one of a blind text, or says that no label fits, if a text may have several.
    """
    found = []
    for task in tasks:
        for annotation in task.get("annotations") or ():
            shown = None if exclusion_cause(space, annotation) else shown_prediction(task, annotation)
            if shown is None:
                continue
            has_labels = bool(parse_labels(space, shown.get("result")))
            text = None if has_labels or shown.get("result") else readable_text(space, task)
            blind = text is not None and is_blind(text, share)
            if has_labels or blind or (text is not None and space.multiple):
                found.append(Made(task, annotation, shown, blind))
    return found


def shown_prediction(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the prediction that the annotation says it started from, or else the newest stored before it was made."""
    made, origin = parse_timestamp(annotation.get("created_at")), annotation.get("parent_prediction")
    stored = [one for one in task.get("predictions") or () if parse_timestamp(one.get("created_at")) <= made]
    started_from = [one for one in stored if origin and one.get("id") == origin]
    return max(started_from or stored, key=lambda one: parse_timestamp(one.get("created_at")), default=None)


def record(
    space: LabelSpace, made: Made, answer: Mapping[str, Any] | None
) -> tuple[int, int, int, float, float, int, int]:
    """Return a row of RECORD. `answer`: the prediction that was shown, or would have been; None if that is not known."""
    given = set(parse_labels(space, made.annotation["result"]))
    p1, outcome = 0.0, UNKNOWN
    if answer is not None:
        outcome = RIGHT if given == set(parse_labels(space, answer.get("result"))) else WRONG
        p1 = _probability(answer)
    return (
        int(made.annotation["id"]),
        int(parse_timestamp(made.annotation.get("created_at"))),
        _annotator(made.annotation.get("completed_by")),
        _seconds(made.annotation.get("lead_time")),
        p1,
        int(made.blind),
        outcome,
    )


def merged(known: Records, new: Sequence[tuple[Any, ...]], now: float) -> Records:
    """Return the records by annotation id, new ones in place of known ones, without old ones, and at most MAX_RECORDS.

    What the model would have answered stays known once it was.
    """
    found = np.array(list(new), RECORD)
    before = known[np.isin(known["annotation"], found["annotation"])]
    answered = dict(zip(before["annotation"].tolist(), before[["answer", "p1"]].tolist(), strict=True))
    for row in found:
        if row["answer"] == UNKNOWN and int(row["annotation"]) in answered:
            row["answer"], row["p1"] = answered[int(row["annotation"])]
    rows = np.concatenate([known[~np.isin(known["annotation"], found["annotation"])], found])
    rows = rows[np.unique(rows["annotation"], return_index=True)[1]]
    return rows[rows["made_at"] >= now - WINDOW_SECONDS][-MAX_RECORDS:]


@dataclass(frozen=True, slots=True)
class RecordStore:
    """The stored records of one project; the worker that observes it is the one writer."""

    store: ObjectStore
    project_key: str

    def load(self) -> Records:
        """Return the stored records; none if there are none that can be read. Raises StoreError."""
        try:
            found, _ = arrays.parse(self.store.read(self._key), self._key, _COLUMNS)
            rows = np.empty(len(found["annotation"]), RECORD)
            for name, column in found.items():
                rows[name] = column
        except NotFound:
            return EMPTY
        except (UnreadableArrays, ObjectTooLarge, ValueError) as error:
            log.warning("help_records_unreadable", key=self._key, reason=str(error))
            return EMPTY
        return rows

    def write(self, rows: Records) -> None:
        """Store the records. Raises StoreError."""
        self.store.write(self._key, arrays.dump({name: rows[name] for name in RECORD.names or ()}))

    @property
    def _key(self) -> str:
        return f"projects/{self.project_key}/help.safetensors"


def _probability(prediction: Mapping[str, Any]) -> float:
    """Return the probability that the prediction's first region has; 0 if none has one."""
    regions = prediction.get("result") or ()
    scores = [region.get("score") for region in regions if isinstance(region, Mapping)]
    return next((float(score) for score in scores if isinstance(score, int | float)), 0.0)


def _annotator(who: object) -> int:
    """Return the annotator's id; 0 if Label Studio does not name one."""
    found = who.get("id") if isinstance(who, Mapping) else who
    return found if isinstance(found, int) and 0 <= found < 1 << 31 else 0


def _seconds(value: object) -> float:
    is_usable = isinstance(value, int | float) and 0 < value <= _MOST_SECONDS
    return float(value) if is_usable else float("nan")  # type: ignore[arg-type]  # a number, as was just checked
