"""A call of `predict` for tasks, as it goes from Label Studio to a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TASKS_PER_CALL: Final = 32
"""Tasks of one call of `predict`: a class that takes a second for each keeps within its deadline."""
_OWN_NAMES: Final = frozenset({"tasks", "context", "self"})


@dataclass(frozen=True, slots=True)
class PredictCall:
    """Tasks to be predicted, and what Label Studio sends with them."""

    tasks: Sequence[Mapping[str, Any]]
    context: Mapping[str, Any] | None = None
    """What an annotator has begun, of an interactive request."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `predict`: `login` and `password` of Label Studio's request."""
    label_config: str | None = None
    """The project's, if it may differ from the one that the class was built for."""


TaskPredictions = list[dict[str, Any]]
"""The predictions of one task: none, one, or several."""


def split_params(params: object) -> tuple[Mapping[str, Any] | None, dict[str, Any]]:
    """Return the context and the other parameters of Label Studio's `params`."""
    if not isinstance(params, Mapping):
        return None, {}
    context = params.get("context")
    others = {str(name): value for name, value in params.items() if name not in _OWN_NAMES}
    return (context if isinstance(context, Mapping) else None), others


def named(predictions: Sequence[Mapping[str, Any]], version: str) -> TaskPredictions:
    """Return the predictions with the version's name, whatever the class called itself."""
    return [{**one, "model_version": version} for one in predictions]
