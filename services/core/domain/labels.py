"""What a project's labels are: the question that they answer, Label Studio's counts, and the state of the label index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.core.documents import FORMAT, Extensible


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The one question of a label config that Fitloop answers: which one of `labels` a text has, or which of them."""

    from_name: str
    to_name: str
    text_value: str
    """The Text tag's value as written: `$body`, `$a.b`, or a sentence with several `$names`."""
    labels: tuple[str, ...]
    """As annotations store them: a choice's alias if it has one, its path (`a > b`) if the name is not unique."""
    paths: tuple[tuple[str, ...], ...] | None = None
    """Each label's path from the root where results are paths, as of a Taxonomy or with `allowNested`; else None."""
    text_tag: str = "Text"
    """The object tag that shows the text: Text, HyperText or Paragraphs."""
    text_attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Its other attributes as written, by lower-case name: the editor reads them in any case."""
    shown: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the editor shows of a choice → its label, for choices with an alias."""
    multiple: bool = False
    """Whether a text may have several of the labels, or none: `choice="multiple"`, or a Taxonomy without `maxUsages="1"`."""
    empty_counts: bool = False
    """Whether an annotation without any choice is an answer, that no label fits; only with `multiple`."""
    note: str = ""
    """Which control was chosen and which were not, for the log and the status."""
    names: tuple[str, ...] = ()
    """What each label is called, in words: see `core.labels.names`; () from an earlier release."""
    control_tag: str = "Choices"
    """Choices, Rating or Taxonomy, which store answers differently; earlier releases learnt Choices alone."""
    path_separator: str = ""
    """What the editor joins the paths of a Taxonomy with, and splits them at again when it stores an answer."""

    @property
    def control(self) -> str:
        """Format the control for messages: `<Choices name="topic">`."""
        return f'<{self.control_tag} name="{self.from_name}">'


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts that Label Studio computes cheaply; any edit, deletion or addition of a label changes one of them."""

    annotated_tasks: int
    annotations: int
    skipped: int
    newest_change: str
    """`updated_at` of the most recently changed task, ISO 8601; "" if there is no task."""
    tasks: int = 0
    """All tasks, labelled or not."""


@dataclass(frozen=True, slots=True)
class LabelSegment(Extensible):
    """An immutable file of the label index: projects/<key>/labels/<sha256>.safetensors."""

    sha256: str
    rows: int
    """Tasks that it adds or replaces."""
    removed: int = 0
    """Tasks that it removes."""
    size: int = 0
    """In bytes."""


@dataclass(frozen=True, slots=True)
class LabelState(Extensible):
    """projects/<key>/labels/head.json, and the part of request.json that says what a run trains on."""

    segments: tuple[LabelSegment, ...]
    """The base, then the changes since, oldest first."""
    space: LabelSpace | None
    """What the rows' labels mean; None if the label config has no question to learn."""
    label_config_hash: str
    digest: str
    """sha256 of tasks and signatures: equal for equal labels, however they were read."""
    labelled: int
    """Tasks with a usable annotation."""
    counts: Counts
    """Label Studio's own, when the rows were read: what changed since is read next."""
    read_at: float = 0.0
    rules: int = 1
    """Version of the rules that turn annotations into rows; rows of other rules are read again."""
    format: int = FORMAT

    @property
    def annotated_tasks(self) -> int:
        """Tasks with an annotation. Label Studio's count leaves out ground truth, which imported annotations are."""
        return max(self.counts.annotated_tasks, self.labelled)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """runs/<run>/snapshot.json of an earlier release: the labels that the run read; changes are counted from here."""

    tasks: dict[str, str]
    """Task id → signature of its annotations (`core.labels.signature`)."""
    label_config_hash: str
    labels: tuple[str, ...]
    taken_at: float
    from_name: str = ""
    """The control that it read; "" from an earlier release."""
    format: int = FORMAT
