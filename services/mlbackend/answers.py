"""What `predict` returned, as Label Studio's predictions of each task. Runs in the worker; pure, standard library alone.

Accepted are a ModelResponse, a list of predictions or of lists of them, a dict with `predictions`, and None. Regions that do not fit
the label config, and what is no prediction, are dropped and counted by reason; a reason names no content.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

RELATION: Final = "relation"
Check = Callable[[Mapping[str, Any], Sequence[Any]], str]
"""Returns why a region of this result does not fit the label config; "" if it fits."""


class WrongLength(Exception):
    """`predict` returned another number of predictions than tasks."""


def as_list(answer: object) -> list[Any]:
    """Return the predictions as a list. Raises TypeError."""
    found = plain(answer)
    if isinstance(found, Mapping):
        found = found.get("predictions", found.get("results"))
    if found is None:
        return []
    if not isinstance(found, list):
        raise TypeError(f"predict returned {type(answer).__name__} instead of a list of predictions")
    return found


def match_tasks(found: list[Any], tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return one answer per task: by order, or by task id where each prediction bears one. Raises WrongLength.

    Nothing at all means that there is no suggestion for any task.
    """
    if not found:
        return [None] * len(tasks)
    if len(found) == len(tasks):
        return found
    if all(isinstance(one, Mapping) and isinstance(one.get("task"), int) for one in found):
        by_task: dict[int, list[Any]] = {}
        for one in found:
            by_task.setdefault(one["task"], []).append(one)
        return [by_task.get(task.get("id", 0)) for task in tasks]
    raise WrongLength(f"predict returned {len(found)} predictions for {len(tasks)} tasks")


def fitting(answer: object, check: Check, dropped: Counter[str]) -> list[dict[str, Any]]:
    """Return a task's predictions with the regions that fit; those without any left are dropped."""
    given = answer if isinstance(answer, list) else [answer]
    return [found for one in given if one is not None and (found := _prediction(one, check, dropped))]


def _prediction(given: object, check: Check, dropped: Counter[str]) -> dict[str, Any] | None:
    result = given.get("result") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(result, list):
        dropped["no_result"] += 1
        return None
    regions = [one for one in result if not _is_relation(one)]
    kept = [one for one in regions if not _drop(one, result, check, dropped)]
    if regions and not kept:
        return None
    ids = {one.get("id") for one in kept}
    relations = [one for one in result if _is_relation(one)]
    linked = [one for one in relations if {one.get("from_id"), one.get("to_id")} <= ids]
    dropped["relation"] += len(relations) - len(linked)
    score = _score(given.get("score"), dropped)
    return {"result": [*kept, *linked], **({} if score is None else {"score": score})}


def _is_relation(region: object) -> bool:
    return isinstance(region, Mapping) and region.get("type") == RELATION


def _drop(region: object, result: Sequence[Any], check: Check, dropped: Counter[str]) -> bool:
    reason = check(region, result) if isinstance(region, Mapping) else "no_region"
    if reason:
        dropped[reason] += 1
    return bool(reason)


def _score(score: object, dropped: Counter[str]) -> float | None:
    """Return a score that Label Studio can sort by: from 0 to 1."""
    if score is None:
        return None
    if isinstance(score, (int, float)) and 0 <= score <= 1:
        return float(score)
    dropped["score"] += 1
    return None


def plain(value: Any) -> Any:
    """Return the value as JSON has it: models of pydantic, arrays and numbers of numpy converted, NaN as None.

    Raises TypeError for anything else.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    for method in ("model_dump", "tolist", "dict"):
        if callable(convert := getattr(value, method, None)):
            return plain(convert())
    raise TypeError(f"an object of {type(value).__name__} is no JSON")
