"""Versions: lineage and files of each, and the table of served versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.core.documents import FORMAT, Extensible
from services.core.domain.estimates import Estimate, ExpectedAccuracy, GateDecision
from services.core.domain.files import FileEntry
from services.core.domain.forecasts import CurvePoint
from services.core.domain.projects import Method, Parameters


@dataclass(frozen=True, slots=True)
class Lineage:
    """The labels, settings and code that a version was made from."""

    run: str
    annotation_ids: tuple[int, ...]
    """The annotations that gave its labels: the newest of each task; from an earlier release, all of each task."""
    annotations_hash: str
    """Digest of the labels that the run was requested for (LabelState.digest)."""
    label_config_hash: str
    base_model: str
    base_digest: str
    code_version: str
    parameters: Parameters
    parent: str | None
    texts: int
    """Texts that it was trained on."""
    trained_on_everything: bool
    """False: the served model was not trained on the holdout."""
    resumed_from: str | None = None
    precision: str = ""
    """How the trainer multiplied matrices, and the rates that were measured; "" of a probe, and from earlier releases."""
    pool_texts: int = 0
    """Unlabelled texts that it was made with, if it was made from label names alone."""
    layers: int = 0
    """How many of its last layers a fine-tune trained; 0: all of them, and of a probe none."""


OWN_MODEL: Final = "label-studio-ml"
"""`Artefact.layout` and `Artefact.engine` of a version whose answers a class of the operator's computes."""
OWN_MODEL_FILES: Final = "model/"
"""Its files in such a version: what `fit` left in MODEL_DIR; none of a class that only predicts."""


@dataclass(frozen=True, slots=True)
class OwnModel(Extensible):
    """A version of a class of the operator's: how it was made, and what is known of it."""

    model: str
    """`package.module:Class`."""
    fitted_from: float = 0.0
    """When `fit` began: it has not read later annotations. 0: the class has no `fit`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What `fit` returned as `metrics`; unchecked."""
    tasks: int = 0
    """Tasks of the smoke test."""
    answered: int = 0
    """Of these, tasks with a prediction."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason → results of the smoke test that do not fit the label config."""
    seconds_per_task: float | None = None
    """Of the smoke test; None without one."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """How to load a version: a head beside a shared encoder, or a folder with the whole model."""

    layout: str
    """`head`: head.safetensors, for the features of `Manifest.encoder`. Whole models, as those of 0.1.0 and of architectures
    whose classifiers are more than dense layers: `sequence-classification` (transformers) or `sentence-transformers`. `label-studio-ml`:
    the files of the operator's class, in the folder `model/`."""
    engine: str
    """`encoder`: the encoder's own. For whole models `ct2-int8` (in the folder `ct2/`) or `torch-fp32`. `label-studio-ml`: the class."""
    engine_reason: str
    max_length: int
    temperature: float
    """Divides the logits; 1.0 if it is folded into the last layer."""
    padded: bool = True
    """False: padding would change the model's answers, so only texts of one length are computed together."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """How many of a version's texts were truncated. Lengths are in tokens."""

    texts: int
    cut: int
    longest: int
    max_length: int
    """The limit: FITLOOP_MAX_LENGTH, or the base model's if that is smaller."""
    most: int = 0
    """The base model's limit; 0: none."""
    cost: float = 1.0
    """Factor by which the tokens would grow without truncation, or with truncation at `most` only."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """versions/<version>/manifest.json: written last; without it the version does not exist."""

    version: str
    project_key: str
    method: Method
    labels: tuple[str, ...]
    artefact: Artefact
    estimate: Estimate
    gate: GateDecision
    lineage: Lineage
    created_at: float
    files: dict[str, FileEntry] = field(default_factory=dict)
    multi_label: bool = False
    """Whether a text may have several labels, or none."""
    encoder: str = ""
    """Digest of the encoder whose features the head was trained on; "" for a whole model."""
    from_name: str = ""
    """The control of the label config that it predicts; "" from an earlier release."""
    truncation: Truncation | None = None
    """None from an earlier release."""
    expected: ExpectedAccuracy | None = None
    """None from an earlier release, and of a fine-tuned model that had no unlabelled text to answer."""
    curve: tuple[CurvePoint, ...] = ()
    """The learning curve up to this version, which is the last point; it outlives the earlier versions. () from an earlier release,
    and without an expected accuracy."""
    own_model: OwnModel | None = None
    """None unless a class of the operator's computes the answers."""
    format: int = FORMAT

    @property
    def is_from_names(self) -> bool:
        """Whether it was made from label names only."""
        return self.method is Method.ZERO_SHOT

    @property
    def is_evaluated(self) -> bool:
        """Whether labels say how often its answers are right: not of one from label names only, nor of most classes of the operator's."""
        return not self.is_from_names and (self.own_model is None or bool(self.estimate.source))


def expired_versions(
    manifests: Iterable[Manifest], kept: frozenset[str], keep_versions: int, keep_days: float, now: float
) -> list[str]:
    """List the versions to delete: beyond the newest `keep_versions`, older than `keep_days`, and not in `kept`."""
    newest_first = sorted(manifests, key=lambda manifest: manifest.created_at, reverse=True)
    old = (one for one in newest_first[keep_versions:] if now - one.created_at > keep_days * 86_400)
    return [one.version for one in old if one.version not in kept]


@dataclass(frozen=True, slots=True)
class OutOfSample:
    """oos.json: out-of-sample predictions by text key, by which versions are compared. It holds no text."""

    labels: tuple[str, ...]
    source: str
    answers: dict[str, tuple[float, ...]]
    """Text key → calibrated probability of each label."""
    trained_keys: tuple[str, ...] = ()
    """All text keys of this version's lineage: it may not be evaluated again on these."""
    thresholds: tuple[float, ...] = ()
    """Where a text may have several labels: the probability of each from which on it is chosen."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Served(Extensible):
    """The versions that one project serves."""

    current: str | None = None
    previous: str | None = None
    target: str | None = None
    since: float = 0.0
    """When `current` takes effect: shortly after the write, so that all replicas switch at the same moment."""
    why: str = ""
    pinned: bool = False
    target_since: float = 0.0
    """When `target` was written; 0 if there is none, or from an earlier release."""

    def effective_version(self, now: float) -> str | None:
        """Return the version in effect at `now`: the one that is announced, and that answers."""
        return self.current if now >= self.since else self.previous


@dataclass(frozen=True, slots=True)
class Serving(Extensible):
    """serving.json: the one object that changes; only the leader writes it."""

    term: int = 0
    generation: int = 0
    projects: dict[str, Served] = field(default_factory=dict)
    format: int = FORMAT
