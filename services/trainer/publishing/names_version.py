"""A version from label names and unlabelled texts alone, for the time before there are labels.

It is a head like that of any other version, published with its answers for the pool. Nothing was evaluated: it has no accuracy, its
probabilities are too high, and the gate compares the first trained version with it, on texts that are all new to it.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from services.core import documents
from services.core.domain import (
    FROM_LABEL_NAMES,
    NOT_EVALUATED,
    ExpectedAccuracy,
    GateDecision,
    LabelSpace,
    Lineage,
    Manifest,
    Method,
    NamesResult,
    OutOfSample,
    Project,
    Report,
    Served,
)
from services.core.errors import NotFound, StoreError
from services.core.features import Features
from services.core.labels.name_check import names_problem, telling_names
from services.core.labels.names import label_names
from services.core.pool import Pool
from services.core.runs import names_version_name
from services.engine.head import FILE, Head, Layer, read_head
from services.trainer.data.base_encoder import BaseEncoder
from services.trainer.data.features import Floats
from services.trainer.data.next_texts import spread
from services.trainer.data.pool_answers import answer_pool
from services.trainer.methods.names import name_features
from services.trainer.methods.zero_shot import zero_shot
from services.trainer.methods.zero_shot_sets import zero_shot_sets
from services.trainer.process import Run, published_from
from services.trainer.publishing import code_version
from services.trainer.publishing.made import made_of_head
from services.trainer.publishing.version import write_head

ENOUGH_TEXTS: Final = 2000
"""Texts beyond which the version does not change: more are answered, and not learnt from."""
_KIND: Final = "label-names"
_SAME_COSINE: Final = 0.999
"""Between two names that the base model cannot tell apart, as if it knew none of their words."""
_NOISE: Final = 1.5
"""Spread of the cosines of texts and names, in units of random directions', below which names are hardly about the texts: unrelated words
have .9 to 1.4, topics of the texts 1.9 to 12. Abstract names, such as spam or positive, may be below it and still be of use."""
_UNRELATED: Final = (
    "The names of the labels have little in common with the texts, so suggestions may be right hardly more often than chance: describe the labels "
    "by `hint`, or label a few texts."
)
_NO_TEXT: Final = "There are no suggestions before the first labels: no task shows a text."
_UNTOLD: Final = (
    "There are no suggestions before the first labels: the base model cannot tell the names of the labels apart. "
    "Describe them in the label config by `hint`, in a language that the base model reads."
)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NamesVersion:
    """The version that one run of kind `embed` makes."""

    run: Run
    project: Project
    space: LabelSpace
    encoder: BaseEncoder

    def publish(self, pool: Pool, features: Features) -> None:
        """Publish the version, with answers for the tasks with features, and report it. Raises EngineError, StoreError, Preempted."""
        self.run.progress.set_names(self._make(pool, features))

    def _make(self, pool: Pool, features: Features) -> NamesResult:
        manifest, X = self._published_before(), _newest(pool, features)
        if manifest is None and not len(X):
            return NamesResult(0, reason=_NO_TEXT)
        if manifest is None:
            labels = self._labels()
            if len(labels) < 2:
                return NamesResult(len(X), reason=names_problem(self.space) or _UNTOLD)
            manifest = self._publish(labels, X, pool, features)
        self.run.progress.restore_published((published_from(manifest),))
        return NamesResult(len(X), manifest.version)

    @property
    def name(self) -> str:
        """The version's name, the same in each attempt of the run."""
        return names_version_name(self.project, self.run.request.parameters.model_name, self.run.name)

    def _labels(self) -> dict[str, Floats]:
        """Return the labels whose names say something, with the features (d,) of these; none if those are too few."""
        if names_problem(self.space):
            return {}
        names = label_names(self.space)
        telling = np.flatnonzero(telling_names(names))
        E = self.encoder.encoder.features_of([names[row] for row in telling])
        apart = _told_apart(E)
        if 2 * apart.sum() < len(names):
            return {}
        return {self.space.labels[row]: E[place] for place, row in enumerate(telling) if apart[place]}

    def _publish(self, labels: dict[str, Floats], X: Floats, pool: Pool, features: Features) -> Manifest:
        self.run.progress.stage("publishing")
        E = np.stack([*labels.values()])
        head = self._head(E, X)
        with tempfile.TemporaryDirectory(prefix="fitloop-version-", ignore_cleanup_errors=True) as path:
            folder = Path(path)
            try:
                write_head(folder, head, X, head.logits(X))
                answers = answer_pool(pool, features, read_head(folder / FILE))
                spread(answers, features, pool, self.run.request.parameters.seed).write(folder)
                self._write_documents(folder, tuple(labels), head)
            except OSError as error:
                raise StoreError(
                    f"The new version cannot be written to {folder}: {error.strerror or error}."
                ) from error
            reasons = (
                f"Made {FROM_LABEL_NAMES}.",
                *((_UNRELATED,) if is_noise(name_features(E), X) else ()),
            )
            manifest = self.run.registry.publish(folder, self._manifest(tuple(labels), len(X), reasons))
        log.info("names_version_published", version=manifest.version, labels=len(labels), texts=len(X))
        return manifest

    def _head(self, E: Floats, X: Floats) -> Head:
        """Return the head, from the features of the names (labels, d) and of texts (n, d)."""
        found, thresholds = zero_shot_sets(E, X) if self.space.multiple else (zero_shot(E, X), None)
        return Head((Layer(found.weight, found.bias),), thresholds=thresholds)

    def _write_documents(self, folder: Path, labels: tuple[str, ...], head: Head) -> None:
        """Write out-of-sample answers and report as any version has them: without an answer, for want of labels."""
        thresholds = () if head.thresholds is None else tuple(head.thresholds.astype(float).tolist())
        answers = OutOfSample(labels, "", {}, thresholds=thresholds)
        (folder / "oos.json").write_bytes(documents.dump(answers))
        report = documents.to_plain(Report(labels=labels))
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")

    def _manifest(self, labels: tuple[str, ...], texts: int, reasons: tuple[str, ...]) -> Manifest:
        made = made_of_head(self.encoder.manifest)
        return Manifest(
            version=self.name,
            project_key=self.project.key,
            method=Method.ZERO_SHOT,
            labels=labels,
            artefact=made.artefact,
            estimate=NOT_EVALUATED,
            gate=GateDecision(True, _KIND, reasons),
            lineage=self._lineage(texts),
            created_at=time.time(),
            encoder=made.encoder,
            from_name=self.space.from_name,
            multi_label=self.space.multiple,
            expected=ExpectedAccuracy(None, reason=FROM_LABEL_NAMES),
        )

    def _lineage(self, texts: int) -> Lineage:
        parameters = self.run.request.parameters
        return Lineage(
            run=self.run.name,
            annotation_ids=(),
            annotations_hash="",
            label_config_hash=self.project.label_config_hash,
            base_model=parameters.base_model,
            base_digest=self.encoder.digest,
            code_version=code_version(),
            parameters=parameters,
            parent=self._replaced(),
            texts=0,
            trained_on_everything=True,
            pool_texts=texts,
        )

    def _replaced(self) -> str | None:
        """Return the version that is served now, which is from label names as well: the leader asks for no other one to be replaced."""
        return self.run.registry.serving().projects.get(self.project.key, Served()).current

    def _published_before(self) -> Manifest | None:
        """Return the version if an earlier attempt of this run has published it, and crashed right after."""
        try:
            found = self.run.registry.manifest(self.project.key, self.name)
        except NotFound:
            return None
        return found if found.lineage.run == self.run.name else None


def _newest(pool: Pool, features: Features) -> Floats:
    """Return the features (n, d) of the newest texts of the pool, each once."""
    rows = features.rows(pool.keys)[::-1]
    _, first = np.unique(rows, return_index=True)
    unique = rows[np.sort(first)]
    return np.asarray(features.x[unique[unique >= 0][:ENOUGH_TEXTS]], np.float32)


def is_noise(N: Floats, X: Floats) -> bool:
    """Return whether texts (n, d) are no closer to some names (labels, d) than to random directions."""
    centred = X - X.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.float32(1e-12))
    return float((unit @ N.T).std()) < _NOISE / math.sqrt(X.shape[1])


def _told_apart(E: Floats) -> NDArray[np.bool_]:
    """Return (n,) whether no other name has the same features (n, d)."""
    unit = E / np.maximum(np.linalg.norm(E, axis=1, keepdims=True), np.float32(1e-12))
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    return np.asarray(cosines.max(axis=1, initial=-1) < _SAME_COSINE)
