"""What a version would have suggested for blind tasks: stored by its run, or computed by a predictor on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.adapter.ports import Inference
from services.adapter.serving.manifest_cache import ManifestCache
from services.adapter.serving.stored import Text, readable_texts, stored_predictions
from services.adapter.suggestions import build_prediction
from services.core.domain import LabelSpace, Served
from services.core.errors import FitloopError
from services.core.registry import Registry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """The answers of any version of one store."""

    registry: Registry
    inference: Inference
    served: Callable[[str], Served]
    """What a project serves, by its key: only those versions are asked, because another one would have to be loaded."""
    _manifests: dict[str, ManifestCache] = field(default_factory=dict)
    """By project key: those of the versions that are asked."""

    def __call__(
        self, project_key: str, space: LabelSpace, version: str, tasks: Sequence[Mapping[str, Any]]
    ) -> dict[int, dict[str, Any]]:
        """Return the prediction by task; tasks without one are missing. Errors are logged: the annotation stays without an answer."""
        try:
            known, unknown = self._stored(project_key, space, version, tasks)
            if unknown and self._is_asked(project_key, version):
                is_evaluated = self._manifests[project_key].read(version).is_evaluated
                known += asyncio.run(
                    self._computed(project_key, space, version, unknown, is_evaluated=is_evaluated)
                )
        except FitloopError as error:
            log.warning("blind_answers_not_read", version=version, reason=str(error))
            return {}
        return {int(one["task"]): one for one in known}

    def _is_asked(self, project_key: str, version: str) -> bool:
        """Return whether the version is served, or was before; forget the manifests of others."""
        served = self.served(project_key)
        asked = {name for name in (served.current, served.previous) if name}
        self._manifests.setdefault(project_key, ManifestCache(self.registry, project_key)).keep(asked)
        return version in asked

    def _stored(
        self, project_key: str, space: LabelSpace, version: str, tasks: Sequence[Mapping[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[Text]]:
        stored = stored_predictions(self.registry, project_key, version)
        rows = [dict(task) for task in tasks]
        return stored.answer(space, rows) if stored else ([], readable_texts(space, rows))

    async def _computed(
        self,
        project_key: str,
        space: LabelSpace,
        version: str,
        texts: Sequence[Text],
        *,
        is_evaluated: bool,
    ) -> list[dict[str, Any]]:
        scores = await self.inference.scores(project_key, version, [text for _, text in texts])
        found = (
            (task, build_prediction(space, scores, row, version, is_evaluated=is_evaluated))
            for row, (task, _) in enumerate(texts)
        )
        return [{"task": task, **prediction} for task, prediction in found if prediction is not None]
