"""What deliveries use of Label Studio, of predictors and of the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.adapter.ports import Inference
from services.adapter.serving.cleanup import CleanupSource
from services.adapter.serving.label_studio import BackendSource, RefreshJob
from services.adapter.serving.pushes import PredictionSink
from services.adapter.serving.stored import StoredPredictions
from services.core.domain import Served
from services.core.settings import AuthSettings, ServingSettings


class RefreshSource(BackendSource, PredictionSink, CleanupSource, Protocol):
    """The part of LabelStudio that a refresh uses."""

    def count_unlabelled(self, project_id: int) -> int:
        """Return how many tasks have no annotation."""
        ...

    def unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        """Yield their ids, the most uncertain first; each list is one request."""
        ...

    def unpredicted_tasks(self, project_id: int, version: str, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have no annotation and no prediction of a version with such a name."""
        ...


class NoLongerWanted(Exception):
    """The version is no longer in effect, another job replaced this one, or this process stops."""


@dataclass(frozen=True, slots=True)
class DeliveryPorts:
    """What all deliveries share."""

    source: RefreshSource
    inference: Inference
    auth: AuthSettings
    serving: ServingSettings
    served: Callable[[RefreshJob], Served]
    """What the job's project serves. Raises NotLeading."""
    stored: Callable[[RefreshJob], StoredPredictions | None] = lambda _: None
    """What the version's run predicted. Raises StoreError."""
    is_evaluated: Callable[[RefreshJob], bool] = lambda _: True
    """As in the version's manifest. Raises StoreError."""
