"""A version's predictions that its run stored, as a delivery uses them: the most uncertain first, for texts that are still the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.adapter.suggestions import build_suggestion, conceal, is_blind
from services.core.domain import LabelSpace
from services.core.labels import text_key
from services.core.labels.readable import readable_text
from services.core.labels.rows import text_key_number
from services.core.pool import PoolPredictions, pool_predictions
from services.core.registry import Registry

Text = tuple[int, str]
"""A task's id and its text."""


@dataclass(frozen=True)
class StoredPredictions:
    """The stored predictions of one version."""

    version: str
    labels: tuple[str, ...]
    """What the predictions' labels refer to."""
    predictions: PoolPredictions
    is_evaluated: bool = True
    """As in the version's manifest: without, the suggestions show no probability."""

    def __len__(self) -> int:
        return len(self.predictions)

    def tasks(self, start: int, stop: int) -> list[int]:
        """Return the ids of some tasks, in the order of uncertainty."""
        return [int(task) for task in self.predictions.tasks[start:stop]]

    def answer(
        self, space: LabelSpace, tasks: Sequence[dict[str, Any]], blind_share: float = 0.0
    ) -> tuple[list[dict[str, Any]], list[Text]]:
        """Return Label Studio's predictions for tasks whose text the run saw, and the texts of the others.

        Tasks without a text are in neither, nor are those whose label the config no longer has. Predictions of blind texts
        are concealed.
        """
        texts = readable_texts(space, tasks)
        found, unknown = [], []
        for (task, text), row in zip(texts, self._rows([task for task, _ in texts]), strict=True):
            if row < 0 or not self._is_answer(row, text):
                unknown.append((task, text))
            elif suggestion := self._suggestion(space, row):
                shown = conceal(suggestion) if is_blind(text, blind_share) else suggestion
                found.append({"task": task, **shown})
        return found, unknown

    def _is_answer(self, row: int, text: str) -> bool:
        known = self.predictions
        is_same_text = int(known.texts[row]) == text_key_number(text_key(text))
        p1, score = known.p1[row], known.scores[row]
        least = 0 if known.chosen is not None and not known.chosen[row].any() else np.finfo(np.float32).tiny
        return is_same_text and least <= p1 <= 1 and 0 < score <= 1  # false for NaN

    def _suggestion(self, space: LabelSpace, row: int) -> dict[str, Any] | None:
        known = self.predictions
        numbers = known.chosen_at(row) if space.multiple else [int(known.labels[row])]
        labels = [self.labels[number] for number in numbers]
        probability = float(known.p1[row]) if self.is_evaluated else None
        return build_suggestion(space, labels, probability, float(known.scores[row]), self.version)

    @cached_property
    def _by_task(self) -> NDArray[np.int64]:
        return np.argsort(self.predictions.tasks, kind="stable")

    def _rows(self, tasks: Sequence[int]) -> list[int]:
        """Return each task's row; -1 for one that has none."""
        known, wanted = self.predictions.tasks, np.array(tasks, np.int64)
        places = np.searchsorted(known, wanted, sorter=self._by_task)
        rows = self._by_task[np.minimum(places, len(known) - 1)]
        return [int(row) for row in np.where(known[rows] == wanted, rows, -1)]


def stored_predictions(registry: Registry, project_key: str, version: str) -> StoredPredictions | None:
    """Return what the version's run stored; None if it stored nothing. Raises CorruptVersion, NotFound, StoreError."""
    manifest = registry.manifest(project_key, version)
    found = pool_predictions(registry, manifest)
    return StoredPredictions(version, manifest.labels, found, manifest.is_evaluated) if found else None


def readable_texts(space: LabelSpace, tasks: Sequence[dict[str, Any]]) -> list[Text]:
    """Return the ids and texts of the tasks that show a text."""
    return [(int(task["id"]), text) for task in tasks if (text := readable_text(space, task))]
