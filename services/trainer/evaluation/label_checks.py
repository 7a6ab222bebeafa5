"""Which labels people were asked to check, and which they have confirmed: label_checks.json of a project. It holds no text.

A label is confirmed if an annotation of its task was submitted or updated after a version had listed it, no annotator of the task is
outvoted, and the label is still the same; or if it is ground truth. It is not listed again then. A label that was changed is a new
label, and may be listed. Where a text may have several labels, each is checked by itself: whether it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from services.core import documents
from services.core.documents import FORMAT, Extensible
from services.core.domain import SuspectLabel, SuspectLabels
from services.core.errors import NotFound, ObjectTooLarge, StoreError, UnknownFormat, UnreadableDocument
from services.core.store import ObjectStore
from services.trainer.data.dataset import Dataset, Example
from services.trainer.evaluation.suspects import list_suspects

if TYPE_CHECKING:
    from services.trainer.evaluation import Candidate

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LabelCheck(Extensible):
    """A label that a version listed as suspect."""

    key: str
    """Of the text."""
    label: str
    changed_at: int
    """`Example.changed_at` when it was listed."""
    task_id: int = 0
    """`Example.task_id` then; the time is that of this task alone."""
    given: bool = True
    """Whether the text had the label; False where it may have several, and lacked it."""
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class LabelChecks(Extensible):
    """label_checks.json."""

    checks: tuple[LabelCheck, ...] = ()
    """By text key and label, each once."""
    changed: int = 0
    """Labels that people have changed after they were listed."""
    format: int = FORMAT

    @property
    def confirmed(self) -> frozenset[tuple[str, str]]:
        """Text keys and labels that were confirmed."""
        return frozenset((check.key, check.label) for check in self.checks if check.confirmed)


def settle(known: LabelChecks, dataset: Dataset) -> LabelChecks:
    """Take in what people have done since: confirmed labels are marked, changed and deleted ones leave. Pure."""
    examples = {example.key: example for example in dataset.examples}
    kept, changed = [], known.changed
    for check in known.checks:
        example = examples.get(check.key)
        if example is None or check.label not in dataset.labels:
            continue
        if _has(example, check.label, dataset) == check.given:
            kept.append(_settled(check, example))
        else:
            changed += not check.confirmed
    return replace(known, checks=tuple(kept), changed=changed)


def with_listed(known: LabelChecks, found: SuspectLabels, dataset: Dataset) -> LabelChecks:
    """Add the labels that a version lists, and drop unconfirmed ones that it does not list any more. Pure."""
    tasks = {row.task_id for row in found.rows}
    examples = {example.task_id: example for example in dataset.examples if example.task_id in tasks}
    new = [_new_check(row, examples[row.task_id], dataset) for row in found.rows]
    checks = {(check.key, check.label): check for check in new}
    checks |= {
        (check.key, check.label): check
        for check in known.checks
        if check.confirmed or (check.key, check.label) in checks
    }
    return replace(known, checks=tuple(checks[pair] for pair in sorted(checks)))


def _new_check(row: SuspectLabel, example: Example, dataset: Dataset) -> LabelCheck:
    label = row.other if row.given is None else row.given
    assert label is not None  # noqa: S101  # one of the two always is
    return LabelCheck(
        example.key, dataset.labels[label], example.changed_at, example.task_id, row.given is not None
    )


def _has(example: Example, label: str, dataset: Dataset) -> bool:
    return label in (example.labels if dataset.multiple else (example.label,))


def _settled(check: LabelCheck, example: Example) -> LabelCheck:
    """Compare times of Label Studio alone, since clocks of two machines may differ, and of one task: duplicates have their own."""
    if check.confirmed or example.ground_truth:
        return replace(check, confirmed=True)
    if check.task_id != example.task_id:
        return replace(check, task_id=example.task_id, changed_at=example.changed_at)
    return replace(check, confirmed=example.changed_at > check.changed_at and not example.outvoted)


@dataclass(frozen=True, slots=True)
class LabelChecksFile:
    """The document of one project; its run is the one writer. What cannot be read or stored costs a repeated question, and no version."""

    store: ObjectStore
    project_key: str

    def read(self) -> LabelChecks | None:
        """Return what was stored; None if a newer release stored it, or the store fails: nothing may be written then."""
        try:
            return documents.load(LabelChecks, self.store.read(self._key), self._key)
        except NotFound:
            return LabelChecks()
        except StoreError as error:
            log.warning("label_checks_unreadable", key=self._key, reason=str(error))
            is_broken = isinstance(error, (UnreadableDocument, ObjectTooLarge))
            return LabelChecks() if is_broken and not isinstance(error, UnknownFormat) else None

    def write(self, checks: LabelChecks) -> None:
        """Store the document, if that is possible."""
        try:
            self.store.write(self._key, documents.dump(checks))
        except StoreError as error:
            log.warning("label_checks_not_stored", key=self._key, reason=str(error))

    @property
    def _key(self) -> str:
        return f"projects/{self.project_key}/label_checks.json"


def list_unconfirmed(
    known: LabelChecks, dataset: Dataset, candidate: Candidate
) -> tuple[SuspectLabels, LabelChecks]:
    """Return the suspect labels that people have not confirmed, and what is to be remembered once they are shown. Pure."""
    settled = settle(known, dataset)
    answered = candidate.trained.out_of_sample
    found = list_suspects(
        dataset, answered.rows, candidate.probabilities, answered.learnable, settled.confirmed
    )
    found = replace(found, confirmed=len(settled.confirmed), changed=settled.changed)
    return found, with_listed(settled, found, dataset)
