"""Labels and texts to examples: a text with its label, or with its labels where it may have several.

Pure: the same labels and texts in any order give the same data set. Tasks and annotations that give no example are counted
by the reasons of `core.labels.uncounted`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Disagreement, LabelSpace, LabelState, Uncounted
from services.core.errors import BadData
from services.core.labels import text_key
from services.core.labels.examples import Examples, examples_of, words_of
from services.core.labels.index import LabelIndex
from services.core.labels.rows import GROUND_TRUTH, text_key_number
from services.core.labels.trainable import untrainable_reason
from services.core.labels.uncounted import Cause
from services.trainer.data.annotators import measure_disagreement
from services.trainer.data.labels import RunLabels
from services.trainer.data.left_out import tasks_by_reason
from services.trainer.data.split import split_keys


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its label."""

    key: str
    text: str
    label: str
    """Where it may have several, or none: all of them in words."""
    task_id: int
    """The lowest id of the tasks that hold this text with this label."""
    labels: tuple[str, ...] = ()
    """All of them where it may have several."""
    annotation: int = 0
    """The newest annotation of that task with the label."""
    changed_at: int = 0
    """When that task's annotations were last made or edited: seconds since the epoch."""
    ground_truth: bool = False
    outvoted: bool = False
    """Whether an annotator of that task gave another answer: `changed_at` may be the time of that one."""


@dataclass(frozen=True)
class Dataset:
    """What a run trains on."""

    examples: tuple[Example, ...]
    """One for each text key, sorted by key."""
    labels: tuple[str, ...]
    """All labels of the label config, in its order: one without an example may be learnt by its name."""
    state: LabelState
    """The labels that it was made of."""
    not_counted: tuple[Uncounted, ...]
    """Annotations and tasks that gave no example, by reason."""
    third_opinion: tuple[int, ...]
    """Ids of tasks whose annotators, or whose duplicates' labels, are tied."""
    annotation_ids: tuple[int, ...] = ()
    """Of each task that agrees with its example's label, the newest annotation with that label; ascending."""
    disagreement: Disagreement = field(default_factory=Disagreement)
    """How annotators agree with each other."""
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Reason why something gave no example → a few task ids."""
    multiple: bool = False
    """Whether a text may have several labels, or none: `chosen` says which, and there are no `targets`."""

    @property
    def dropped(self) -> dict[str, int]:
        """`not_counted` as counts by reason."""
        return {row.reason: row.count for row in self.not_counted}

    @cached_property
    def keys(self) -> list[str]:
        """The text key of each example."""
        return [example.key for example in self.examples]

    @cached_property
    def split_keys(self) -> list[str]:
        """The key that assigns each example to a fold and to holdout or training; nearly equal texts share one."""
        return split_keys(self.texts)

    @cached_property
    def texts(self) -> list[str]:
        """The text of each example."""
        return [example.text for example in self.examples]

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """(examples,) the index of each label in `labels`."""
        index = {label: number for number, label in enumerate(self.labels)}
        return np.array([index[example.label] for example in self.examples], np.int64)

    @cached_property
    def label_sets(self) -> dict[str, tuple[str, ...]]:
        """Each text key's labels, where a text may have several."""
        return {example.key: example.labels for example in self.examples}

    @cached_property
    def chosen(self) -> NDArray[np.bool_]:
        """(examples, labels) which labels each text has, where it may have several."""
        index = {label: number for number, label in enumerate(self.labels)}
        found = np.zeros((len(self.examples), len(self.labels)), np.bool_)
        for row, example in enumerate(self.examples):
            found[row, [index[label] for label in example.labels]] = True
        return found


def build_dataset(labels: RunLabels, texts: Mapping[int, str | None]) -> Dataset:
    """Build the examples of all tasks that still show the text that was labelled.

    `texts`: task id → the text that it shows, None if it shows none; deleted tasks are absent.
    """
    keys = {task: text_key(text) for task, text in texts.items() if text is not None}
    index, missing = _without_changed(labels.index, keys, texts)
    found = examples_of(index)
    found = replace(found, causes={**found.causes, **missing})
    contested = np.array(
        [any(cause.reason == "outvoted" for cause, _ in one) for one in index.causes], np.bool_
    )
    examples = _examples(found, contested, labels.space, keys, texts)
    ids = np.unique(index.rows["newest_annotation"][found.agreeing])
    return Dataset(
        examples=examples,
        labels=labels.space.labels,
        state=labels.state,
        not_counted=found.not_counted(labels.space, labels.state.counts.skipped),
        third_opinion=tuple(found.third_opinion.tolist()),
        annotation_ids=tuple(ids[ids > 0].tolist()),
        disagreement=measure_disagreement(labels.index, labels.space.labels),
        left_out=tasks_by_reason(labels.index),
        multiple=labels.space.multiple,
    )


def check_trainable(dataset: Dataset, space: LabelSpace) -> None:
    """Raise BadData, with the counts, if the labels do not allow a model."""
    counts = Counter(
        label
        for example in dataset.examples
        for label in (example.labels if space.multiple else (example.label,))
    )
    found = {label: counts[label] for label in dataset.labels}
    texts = len(dataset.examples) if space.multiple else None
    reason = untrainable_reason(found, dataset.not_counted, space.control, texts)
    if reason:
        raise BadData(reason)


def _without_changed(
    index: LabelIndex, keys: Mapping[int, str], texts: Mapping[int, str | None]
) -> tuple[LabelIndex, dict[Cause, int]]:
    """Return the index without tasks whose text is not the labelled one any more, and how many these are, by cause."""
    rows = index.rows[index.voting]
    labelled = zip(rows["task"].tolist(), rows["text_key"].tolist(), strict=True)
    changed = [task for task, key in labelled if task not in keys or text_key_number(keys[task]) != key]
    deleted = sum(task not in texts for task in changed)
    causes = {Cause("deleted_task"): deleted, Cause("changed_text"): len(changed) - deleted}
    return index.upsert((), changed), {cause: count for cause, count in causes.items() if count}


def _examples(
    found: Examples,
    contested: NDArray[np.bool_],
    space: LabelSpace,
    keys: Mapping[int, str],
    texts: Mapping[int, str | None],
) -> tuple[Example, ...]:
    """Return the examples, sorted by key; `contested`: whether a row's `causes` tell of an outvoted annotator."""
    columns = ("task", "newest_annotation", "changed_at", "flags")
    outvoted = contested[found.rows["causes"]].tolist()
    rows = zip(found.labels(space), *(found.rows[name].tolist() for name in columns), outvoted, strict=True)
    examples = (
        Example(
            keys[task],
            text,
            words_of(labels),
            task,
            labels if space.multiple else (),
            annotation,
            changed_at,
            bool(flags & GROUND_TRUTH),
            is_outvoted,
        )
        for labels, task, annotation, changed_at, flags, is_outvoted in rows
        if (text := texts[task]) is not None
    )
    return tuple(sorted(examples, key=lambda example: example.key))
