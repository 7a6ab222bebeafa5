"""What the `value` of a result holds for each control tag, read and written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from services.core.domain import LabelSpace


class StoredValue(Protocol):
    """How a control tag stores an answer."""

    @property
    def type(self) -> str:
        """The results' `type`, under which their `value` has the answer."""
        ...

    def read(self, value: object) -> list[Any]:
        """Return the entries of an answer, each of one label."""
        ...

    def write(self, space: LabelSpace, labels: Sequence[str]) -> Any:
        """Return the answer that has these labels of the space."""
        ...


class Choices:
    """A list of choices, or of paths; imports may write a single one without a list, and the editor reads it."""

    type: Final = "choices"

    def read(self, value: object) -> list[Any]:
        return value if isinstance(value, list) else [value]

    def write(self, space: LabelSpace, labels: Sequence[str]) -> list[str] | list[list[str]]:
        return list(labels) if space.paths is None else paths_of(space, labels)


class Rating:
    """A number; zero stands for no stars, as after they were taken back."""

    type: Final = "rating"

    def read(self, value: object) -> list[Any]:
        return [entry for entry in Choices().read(value) if entry != 0 or isinstance(entry, bool)]

    def write(self, space: LabelSpace, labels: Sequence[str]) -> int:
        del space
        (stars,) = labels
        return int(stars)


class Taxonomy:
    """A list of paths."""

    type: Final = "taxonomy"

    def read(self, value: object) -> list[Any]:
        entries = value if isinstance(value, list) else [value]
        return [entry if isinstance(entry, list) else None for entry in entries]  # None is no label

    def write(self, space: LabelSpace, labels: Sequence[str]) -> list[list[str]]:
        return paths_of(space, labels)


def paths_of(space: LabelSpace, labels: Sequence[str]) -> list[list[str]]:
    """Return the paths of labels, of a space that has paths."""
    paths = space.paths or ()
    return [list(paths[space.labels.index(label)]) for label in labels]


STORED_VALUES: Final[Mapping[str, StoredValue]] = {
    "Choices": Choices(),
    "Rating": Rating(),
    "Taxonomy": Taxonomy(),
}
"""By control tag."""
