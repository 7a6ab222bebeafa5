"""Whether a version is to be made from label names, before there are labels: what a project has and serves in, the cause out. Pure.

Such a version is made once, and again when label names change or the texts have doubled, as long as nothing better is served: never
over a version that was trained on labels, nor over what a person has pinned.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from services.adapter.state.project_state import NamesRun, RunRecord
from services.core.domain import LabelSpace, NamesResult, Parameters, PoolState, RunState, RunStatus, Served
from services.core.labels.name_check import names_problem
from services.core.labels.names import label_names
from services.core.pool import text_source

ENOUGH_TEXTS: Final = 2000
"""Texts that such a version learns from at most: more of them do not change it."""
_MANY: Final = 2
"""Factor by which the texts must have grown for another version."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What the wish depends on."""

    is_on: bool
    """FITLOOP_COLD_START."""
    served: Served
    serves_names: bool = False
    """Whether the version that is served was made from label names."""
    last: NamesRun | None = None
    """The last run that was asked for such a version, once it is known what became of that."""


def names_run(record: RunRecord) -> NamesRun | None:
    """Return what the run has made of label names; None if it was not asked for that, or has not come to it."""
    result = record.status.names if record.status else None
    if result is None and record.outcome is RunState.DONE and record.request.label_names:
        result = NamesResult(0)  # by a trainer of an earlier release: it is not asked again
    if result is None:
        return None
    published = record.status.published if record.status else ()
    status = RunStatus(record.run, RunState.DONE, published=published)
    return NamesRun(RunRecord(record.request, None, status), result)


def fingerprint(space: LabelSpace, parameters: Parameters) -> str:
    """Return 16 hex digits of what such a version is made of, the texts apart."""
    parts = [
        text_source(space),
        space.from_name,
        space.labels,
        label_names(space),
        parameters.base_model,
        parameters.max_length,
        *(("several",) if space.multiple else ()),
    ]
    return hashlib.sha256(json.dumps(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def cause(
    now: ColdStart, space: LabelSpace | None, parameters: Parameters, tasks: int, pool: PoolState | None
) -> str:
    """Return why a version is to be made from label names; "" if none is. `tasks`: all tasks, as Label Studio counts them."""
    if not now.is_on or space is None or now.served.pinned or names_problem(space) or parameters.is_own_model:
        return ""
    if now.served.target or (now.served.current and not now.serves_names):
        return ""
    if now.last is None:
        return "there are no suggestions yet"
    if now.last.record.request.label_names != fingerprint(space, parameters):
        return "the names of the labels have changed"
    texts, before = _known_texts(pool, tasks), now.last.result
    is_more = before.texts < ENOUGH_TEXTS and texts >= _MANY * max(1, before.texts)
    if (now.served.current or before.reason) and is_more:
        return f"there are {texts} texts instead of {before.texts}"
    return ""


def advice(now: ColdStart, space: LabelSpace | None) -> str:
    """Return why there are no suggestions from label names, and what to do; "" if there are, or none are wanted."""
    if not now.is_on or space is None or now.served.current:
        return ""
    return names_problem(space) or (now.last.result.reason if now.last else "")


def _known_texts(pool: PoolState | None, tasks: int) -> int:
    """Return how many texts have features, or will have: those of tasks that were added since the pool was read."""
    if pool is None:
        return 0
    return pool.tasks - pool.left + max(0, tasks - pool.counted)
