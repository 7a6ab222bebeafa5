"""A run of kind `embed`: makes the encoder if there is none, reads the pool and computes features of its texts, the newest first.

It needs no labels. If it is asked for a version from label names, it publishes that as soon as there are texts enough, or all. What it
has stored stays, however it ends; the next run continues there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import structlog

from services.core.domain import Counts, LabelSpace, Parameters, Project
from services.core.errors import BadData, CorruptLabels, NoLabelSpace, StoreError
from services.core.features import FeatureStore, key_numbers
from services.core.labels import parse_label_space
from services.core.labels.index import EMPTY, LabelIndex
from services.core.labels.segments import LabelStore
from services.core.pool import FEATURE_METHODS, PoolStore
from services.trainer.data.base_encoder import BaseEncoder
from services.trainer.data.labels import read_project
from services.trainer.data.pool import PoolReader
from services.trainer.data.pool_features import PoolFeatures, fill
from services.trainer.process import Run
from services.trainer.process.lifecycle import Stop
from services.trainer.publishing.base_encoder import open_encoder
from services.trainer.publishing.names_version import ENOUGH_TEXTS, NamesVersion

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel

T = TypeVar("T")
_SAVE_SECONDS: Final = 10.0
log = structlog.get_logger()


def embed(run: Run) -> None:
    """Work for the request's `budget_seconds`. Raises the FitloopError that ends the run."""
    until = time.monotonic() + run.request.parameters.budget_seconds
    run.progress.stage("reading")
    project, counts = read_project(run)
    space = _label_space(run, project)
    run.progress.stage("loading")
    encoder = open_encoder(
        run.registry, run.request.parameters, cache(partial(_load_base, run.request.parameters))
    )
    _Embedding(run, project, space, counts, encoder, until).work()


def _label_space(run: Run, project: Project) -> LabelSpace:
    try:
        return parse_label_space(project.label_config, run.request.parameters.control)
    except NoLabelSpace as error:
        raise BadData(str(error)) from error


def _load_base(parameters: Parameters) -> BaseModel:
    # Imported only here: torch and transformers take seconds, and an encoder that is there needs neither.
    from services.trainer.data.base_model import load_base

    return load_base(parameters.base_model, parameters.max_length, parameters.method)


class _Embedding:
    """The work of one run."""

    def __init__(
        self,
        run: Run,
        project: Project,
        space: LabelSpace,
        counts: Counts,
        encoder: BaseEncoder,
        until: float,
    ) -> None:
        store, manifest = run.registry.store, encoder.manifest
        self._run, self._project, self._counts = run, project, counts
        self._pool_store = PoolStore(store, project.key)
        self._reader = PoolReader(run.labels, project.id, space, self._pool_store.load())
        features = FeatureStore(store, project.key, manifest.digest, manifest.width)
        self._features = PoolFeatures(features, encoder.encoder, run.stop, manifest.padded, until)
        self._index = _label_index(run)
        self._saved_at = time.monotonic()
        self._names = NamesVersion(run, project, space, encoder) if run.request.label_names else None
        """The version that is still to be made."""
        self._begin_stage()

    def work(self) -> None:
        """Read and compute until nothing is left or the time is over. Raises FitloopError."""
        try:
            if self._read():
                self._reconcile()
                fill(self._reader, self._features, self._run.stop, self._report)
            self._make_version()
        except BaseException:
            with contextlib.suppress(StoreError):  # the first error counts
                self._save()
            raise
        self._save()
        self._prune()
        run, state = self._run, self._features.state(self._reader.pool)
        run.progress.set_pool(state)
        done = f"{state.tasks - state.left} of {state.tasks} unlabelled texts have features"
        run.progress.set_message(f"{done}, {state.computed} of them new.")
        log.info("pool_embedded", tasks=state.tasks, left=state.left, computed=state.computed)

    def _read(self) -> bool:
        """Read what changed, and compute each page's texts; return whether Label Studio was read to the end."""
        for texts in interruptible(self._run.stop, self._reader.changes(self._counts)):
            self._features.add(texts)
            self._report(len(self._reader.pool))
            if self._features.is_over:
                return False
        return True

    def _reconcile(self) -> None:
        with self._run.stop.interruptible():
            self._reader.pool = self._reader.pool.without(self._index.tasks)
            self._reader.reconcile(self._counts)

    def _report(self, done: int) -> None:
        self._run.stop.check()
        self._run.progress.step(done)
        if self._features.texts >= ENOUGH_TEXTS:
            self._make_version()
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self._save()

    def _make_version(self) -> None:
        """Make the version from label names, if one is still to be made. Raises FitloopError."""
        names, self._names = self._names, None
        if names is None:
            return
        self._features.flush()
        names.publish(self._reader.pool, self._features.features())
        if self._run.request.parameters.method not in FEATURE_METHODS:
            self._features.until = 0.0  # no version will read the features of other texts
        self._begin_stage(self._run.progress.status.step)

    def _begin_stage(self, done: int = 0) -> None:
        steps = max(0, self._counts.tasks - self._counts.annotated_tasks)
        self._run.progress.stage("features", steps, done)

    def _save(self) -> None:
        self._features.flush()
        self._pool_store.write(self._reader.pool)
        self._saved_at = time.monotonic()

    def _prune(self) -> None:
        """Drop features of texts that are neither in the pool nor labelled, if there are many."""
        if len(self._index):
            used = [key_numbers(self._reader.pool.keys), self._index.rows["text_key"]]
            self._features.store.prune(np.concatenate(used))


def _label_index(run: Run) -> LabelIndex:
    """Return the labels that the leader has read last; none if they cannot be read."""
    labels = LabelStore(run.registry.store, run.request.project_key)
    try:
        head = labels.head()
        return labels.load(head) if head else EMPTY
    except CorruptLabels as error:
        log.warning("label_index_unreadable", reason=str(error))
        return EMPTY


def interruptible(stop: Stop, items: Iterator[T]) -> Iterator[T]:
    """Yield the items; a signal ends the wait for one at once. Raises Preempted."""
    while True:
        with stop.interruptible():
            found = next(items, None)
        if found is None:
            return
        yield found
