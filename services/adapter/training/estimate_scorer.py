"""Scores the expected accuracy of one project's versions against later annotations, in a worker's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import structlog

from services.adapter.state.estimates_file import EstimateScores, EstimatesFile
from services.core.domain import EstimateErrors, EstimateScore, LabelSpace, Manifest
from services.core.errors import CorruptVersion, NotFound, UnknownFormat
from services.core.estimate_scores import SETTLED_ANNOTATIONS, AnsweredPool, average, score_estimate
from services.core.labels.index import LabelIndex
from services.core.pool import pool_predictions
from services.core.registry import Registry

log = structlog.get_logger()


@dataclass(slots=True)
class EstimateScorer:
    """The scores of one project. One thread at a time may use it."""

    registry: Registry
    project_key: str
    term: Callable[[], int]
    _known: EstimateScores | None = None
    """The stored document; None before it was read."""
    _manifests: dict[str, Manifest] = field(default_factory=dict)
    """Of the versions that are scored again."""
    _unusable: set[str] = field(default_factory=set)
    """Versions that have no figure or no answers, or cannot be read: nothing about them changes."""

    def score(self, versions: Sequence[str], index: LabelIndex, space: LabelSpace) -> EstimateErrors | None:
        """Score these versions, and those whose scores are not settled, on the labels of `index`; store what is new.

        Return how far the newest estimates were off; None before any was scored. Raises StoreError.
        """
        file = EstimatesFile(self.registry.store, self.project_key)
        known = file.read() if self._known is None else self._known
        wanted = list(self._wanted(versions, known))
        self._manifests = {name: one for name, one in self._manifests.items() if name in wanted}
        found = {score.version: score for score in self._scores(wanted, index, space)}
        merged = known.merge(found, known.term)
        if merged != known:
            merged = replace(merged, term=self.term())
            file.write(merged)
        self._known = merged
        return average(merged.scores)

    def _wanted(self, versions: Sequence[str], known: EstimateScores) -> Iterator[str]:
        """Yield the versions to score, the newest first: it judges the others, however settled its own score is."""
        settled = {one.version for one in known.scores if one.annotations >= SETTLED_ANNOTATIONS}
        names = dict.fromkeys((*versions, *(one.version for one in reversed(known.scores))))
        return (
            name
            for name in names
            if name not in self._unusable and (name not in settled or name in versions[:1])
        )

    def _scores(self, names: Sequence[str], index: LabelIndex, space: LabelSpace) -> Iterator[EstimateScore]:
        newest: AnsweredPool | None = None
        for name in names:
            answered = self._answered(name, space)
            if answered and (score := score_estimate(answered, newest, index, space.labels)):
                yield score
            newest = newest or answered

    def _answered(self, version: str, space: LabelSpace) -> AnsweredPool | None:
        """Return a version's answers; None if it has none, no figure, or is for another control, which may be chosen again."""
        try:
            manifest = self._manifest(version)
            is_scored = manifest.expected and manifest.expected.accuracy is not None
            if is_scored and not manifest.multi_label:
                if manifest.from_name != space.from_name:
                    return None
                if predictions := pool_predictions(self.registry, manifest):
                    return AnsweredPool(manifest, predictions)
        except (NotFound, CorruptVersion, UnknownFormat) as error:
            log.info("estimate_not_scored", version=version, reason=str(error))
        self._unusable.add(version)
        return None

    def _manifest(self, version: str) -> Manifest:
        if version not in self._manifests:
            found = self.registry.manifest(self.project_key, version)
            self._manifests[version] = replace(found, lineage=replace(found.lineage, annotation_ids=()))
        return self._manifests[version]
