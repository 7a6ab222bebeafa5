"""The `<Choice>` tags of a control, which may be nested: their labels, paths and names. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.core.labels.markup import Tag
from services.core.labels.names import choice_name, join_names

PATH: Final = " > "
"""Between the choices of a path where a label or a message names all of them."""
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChoiceTree:
    """The choices of one control."""

    tag: Tag
    is_nested: bool
    """Whether results hold a path from the root for each choice."""
    leaves_only: bool = False
    """Whether choices that have others below them cannot be chosen."""

    @property
    def paths(self) -> tuple[Path, ...] | None:
        """Each choice's path as results hold it; None if they hold no paths."""
        if not self.is_nested:
            return None
        found = (tuple(map(stored_value, way)) for way in self._ways())
        return tuple(dict.fromkeys(path for path in found if all(path)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Each path's last choice, or the whole path if several end in the same one; without paths the choices, each once."""
        paths = self.paths
        if paths is None:
            names = map(stored_value, choices(self.tag))
            return tuple(dict.fromkeys(name for name in names if name))
        ends = Counter(path[-1] for path in paths)
        return tuple(path[-1] if ends[path[-1]] == 1 else PATH.join(path) for path in paths)

    @property
    def shown(self) -> dict[str, str]:
        """What the editor shows → its label, where results hold an alias; without what two choices show."""
        labels = self.labels
        by_path = dict(zip(self._keys(labels), labels, strict=True))
        found: dict[str, str | None] = {}
        for way in self._ways():
            shown, stored = tuple(one.value for one in way), tuple(map(stored_value, way))
            name = PATH.join(shown)
            found[name] = by_path.get(stored) if shown != stored and name not in found else None
        return {name: label for name, label in found.items() if label and name not in labels}

    @property
    def names(self) -> tuple[str, ...]:
        """Each label's name; that of a path is the names of its choices, joined."""
        found: dict[Path, str] = {}
        for way in self._ways():
            found.setdefault(tuple(map(stored_value, way)), join_names(map(choice_name, way)))
        return tuple(found[path] for path in self._keys(self.labels))

    def _keys(self, labels: Sequence[str]) -> Sequence[Path]:
        return self.paths or [(label,) for label in labels]

    def _ways(self) -> Iterator[list[Tag]]:
        """Yield each choice; below those around it, from the root on, if results are paths."""
        for choice in choices(self.tag):
            if self.leaves_only and any(True for _ in choices(choice)):
                continue
            above = choice.ancestors() if self.is_nested else ()
            yield [one for one in (choice, *above) if one.kind == "choice"][::-1]


def choices(tag: Tag) -> Iterator[Tag]:
    """Yield the choices at any depth, in the config's order."""
    return (one for one in tag.descendants() if one.kind == "choice")


def stored_value(choice: Tag) -> str:
    """Return what annotations hold for a choice: its alias, even an empty one, or else its value."""
    return choice.get("alias") if "alias" in choice.attributes else choice.value
