"""Tasks to examples: one text, one label.

Pure: the same tasks in any order give the same data set. Malformed tasks are counted and never raise.
Tasks and annotations that give no example are counted by the reasons of `core.uncounted`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.domain import LabelSpace, Snapshot, Uncounted
from services.core.errors import BadData
from services.core.labels import signature, task_text, text_key
from services.core.labels.annotations import Vote, decide, parse_timestamp, resolve, untrainable_reason
from services.core.labels.uncounted import Cause, summarise
from services.trainer.data.split import split_keys


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its label."""

    key: str
    text: str
    label: str
    task_id: int
    """The lowest id of the tasks that hold this text with this label."""
    annotation_ids: tuple[int, ...]


@dataclass(frozen=True)
class Dataset:
    """What a run trains on."""

    examples: tuple[Example, ...]
    """One for each text key, sorted by key."""
    labels: tuple[str, ...]
    """Labels with an example, in the label config's order."""
    snapshot: Snapshot
    not_counted: tuple[Uncounted, ...]
    """Annotations and tasks that gave no example, by reason."""
    third_opinion: tuple[int, ...]
    """Ids of tasks whose annotators, or whose duplicates' labels, are tied."""

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


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A task with a text and a label."""

    task_id: int
    key: str
    text: str
    vote: Vote


@dataclass(slots=True)
class _Tally:
    """What is counted task by task."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Tasks and drafts."""
    causes: Counter[Cause] = field(default_factory=Counter)
    """Annotations."""
    third_opinion: set[int] = field(default_factory=set)
    signatures: dict[str, str] = field(default_factory=dict)
    by_key: defaultdict[str, list[_Candidate]] = field(default_factory=lambda: defaultdict(list))

    def add(self, space: LabelSpace, task_id: int, task: Mapping[str, Any]) -> None:
        """Add a task: its signature, and its label if it has a text and a label."""
        annotations = _annotations(task, self.dropped)
        mark = signature(annotation for annotation in annotations if isinstance(annotation, Mapping))
        if mark:
            self.signatures[str(task_id)] = mark
        resolved, text = resolve(space, annotations), task_text(space, task.get("data"))
        self.causes.update(resolved.causes)
        if text is None:
            self.dropped["no_text"] += 1
        elif resolved.label is not None:
            vote = Vote(resolved.label, resolved.ground_truth, resolved.annotation_ids)
            self.by_key[key := text_key(text)].append(_Candidate(task_id, key, text, vote))
        elif resolved.reason == "tie":
            self.third_opinion.add(task_id)

    def left_out(self) -> Counter[Cause]:
        """Return the counts of tasks and drafts in the form of those of annotations."""
        return Counter({Cause(name): count for name, count in self.dropped.items()})

    def merge(self) -> tuple[Example, ...]:
        """Return one example for each key, sorted by key."""
        merged = ((self.by_key[key], _merge(self.by_key[key], self.dropped)) for key in sorted(self.by_key))
        examples = []
        for candidates, example in merged:
            if example:
                examples.append(example)
            else:
                self.third_opinion.update(candidate.task_id for candidate in candidates)
        return tuple(examples)


def build_dataset(
    tasks: Iterable[Mapping[str, Any]],
    space: LabelSpace,
    label_config_hash: str,
    now: float,
    skipped: int = 0,
) -> Dataset:
    """Build the examples of all tasks, and the snapshot of all annotations, dropped ones included.

    `skipped` is Label Studio's own count of skipped annotations: it does not send those of tasks without another annotation.
    """
    tally = _Tally()
    for task_id, task in _distinct(tasks, tally.dropped):
        tally.add(space, task_id, task)
    tally.causes[Cause("cancelled")] = max(skipped, tally.causes[Cause("cancelled")])
    examples = tally.merge()
    found = {example.label for example in examples}
    return Dataset(
        examples=examples,
        labels=tuple(label for label in space.labels if label in found),
        snapshot=Snapshot(tally.signatures, label_config_hash, space.labels, now, space.from_name),
        not_counted=summarise({**tally.causes, **tally.left_out()}, space),
        third_opinion=tuple(sorted(tally.third_opinion)),
    )


def check_trainable(dataset: Dataset, space: LabelSpace) -> None:
    """Raise BadData, with the counts, if the labels do not allow a model."""
    counts = Counter(example.label for example in dataset.examples)
    found = {label: counts[label] for label in dataset.labels}
    reason = untrainable_reason(found, dataset.not_counted, space.from_name)
    if reason:
        raise BadData(reason)


def _distinct(tasks: Iterable[Any], dropped: Counter[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield each task once, sorted by id: a page that shifts while it is read repeats a task."""
    found: dict[int, Mapping[str, Any]] = {}
    for task in tasks:
        number = task.get("id") if isinstance(task, Mapping) else None
        if not isinstance(number, int):
            dropped["malformed_task"] += 1
            continue
        dropped["repeated_task"] += number in found
        found[number] = max(found.get(number, task), task, key=_age)
    yield from sorted(found.items())


def _age(task: Mapping[str, Any]) -> tuple[float, str]:
    return parse_timestamp(task.get("updated_at")), repr(task)


def _annotations(task: Mapping[str, Any], dropped: Counter[str]) -> Sequence[Any]:
    drafts, annotations = task.get("drafts"), task.get("annotations")
    dropped["draft"] += len(drafts) if isinstance(drafts, list) else 0
    return annotations if isinstance(annotations, list) else ()


def _merge(candidates: list[_Candidate], dropped: Counter[str]) -> Example | None:
    """Merge equal texts into one example: each task is one vote, by the rule for annotations; None in a tie."""
    winners = decide([candidate.vote for candidate in candidates])
    if not winners:
        dropped["conflicting_duplicates"] += len(candidates)
        return None
    agreeing = [candidate for candidate in candidates if candidate.vote.label == winners[0].label]
    dropped["duplicate_text"] += len(agreeing) - 1
    dropped["outvoted_duplicate"] += len(candidates) - len(agreeing)
    ids = sorted({id_ for vote in winners for id_ in vote.annotation_ids})
    first = min(agreeing, key=lambda candidate: candidate.task_id)
    return Example(first.key, first.text, winners[0].label, first.task_id, tuple(ids))
