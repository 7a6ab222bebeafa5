"""Data sets of made-up texts for tests of what is reported about them."""

from __future__ import annotations

from services.core.domain import Uncounted
from services.trainer.data.dataset import Dataset, Example
from tests.support.label_states import EMPTY_STATE

SECRET = "a text that must not leave"


def dataset_of(labels: list[str], names: tuple[str, ...] = ("A", "B")) -> Dataset:
    """Return texts with these labels; their tasks are numbered from 100."""
    examples = tuple(
        Example(f"{number:064x}", f"{SECRET} {number}", label, 100 + number)
        for number, label in enumerate(labels)
    )
    return Dataset(
        examples,
        names,
        EMPTY_STATE,
        (Uncounted("cancelled", 2), Uncounted("foreign_label", 1, ('"gone"',))),
        (5, 6),
    )


def sets_of(labels: list[tuple[str, ...]]) -> Dataset:
    """Return texts with these labels of A and B; their tasks are numbered from 100."""
    examples = tuple(
        Example(f"{place:064x}", SECRET, ", ".join(given), 100 + place, given, annotation=500 + place)
        for place, given in enumerate(labels)
    )
    return Dataset(examples, ("A", "B"), EMPTY_STATE, (), (), multiple=True)
