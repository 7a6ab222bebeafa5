"""The control tags that Fitloop learns, each with what it asks and why some of its kind cannot be used. Pure.

What differs between them stands here, and in `stored_values` for what results hold; `CONTROL_TAGS` is the one place that chooses.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.core.labels.choice_trees import ChoiceTree, choices, stored_value
from services.core.labels.markup import Tag, truncate
from services.core.labels.mentions import mention
from services.core.labels.refusals import Objection

_REPLACED: Final = re.compile(r"\$[\w\[\].{}]", re.ASCII)
"""What the editor replaces, even if it is no name: `5 US$.` becomes `5 USundefined`."""
_MULTIPLE: Final = "multiple"
_CHOICES: Final = frozenset({"", "single", "single-radio", _MULTIPLE})
_MAX_RATING: Final = 100
"""Stars of the widest rating that is learnt: more are no question that people answer."""
_RATING: Final = re.compile(r"\s*(0*[1-9][0-9]{0,2})\s*", re.ASCII)
_DEFAULT_RATING: Final = "5"
_SEPARATOR: Final = "pathseparator"
_DEFAULT_SEPARATOR: Final = " / "


@dataclass(frozen=True, slots=True)
class Question:
    """What a control asks: the fields of a LabelSpace that its own tag decides."""

    labels: tuple[str, ...]
    multiple: bool = False
    paths: tuple[tuple[str, ...], ...] | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    path_separator: str = ""


class ControlTag(Protocol):
    """A kind of control."""

    @property
    def name(self) -> str:
        """As the documentation of Label Studio writes it."""
        ...

    def read(self, tag: Tag) -> Question | Objection:
        """Return what the control asks, or why it cannot be used."""
        ...


class Choices:
    """One of several choices, or any number of them, flat or nested."""

    name: Final = "Choices"

    def read(self, tag: Tag) -> Question | Objection:
        rules = (_has_unknown_choice, _has_dynamic_labels, _has_no_choices)
        if (found := _first(tag, rules)) is not None:
            return found
        tree = ChoiceTree(tag, tag.is_set("allownested"))
        is_multiple = tag.get("choice").strip().lower() == _MULTIPLE
        return _tree_question(tree, tag.written("allownested"), multiple=is_multiple)


class Rating:
    """A number of stars: each is a label, and zero is no answer."""

    name: Final = "Rating"

    def read(self, tag: Tag) -> Question | Objection:
        given = tag.get("maxrating") if "maxrating" in tag.attributes else _DEFAULT_RATING
        most = _RATING.fullmatch(given)
        if most is None or int(most[1]) > _MAX_RATING:
            found = tag.written("maxrating")
            return Objection(found, f"has {found}, but needs a whole number from 1 to {_MAX_RATING}")
        labels = tuple(str(stars) for stars in range(1, int(most[1]) + 1))
        return Question(labels, names=labels)


class Taxonomy:
    """One path of nested choices, or any number of them; with `leafsOnly` paths that end in a choice without others below it."""

    name: Final = "Taxonomy"

    def read(self, tag: Tag) -> Question | Objection:
        rules = (_is_from_a_server, _labels_parts, _has_dynamic_labels, _has_no_choices)
        if (found := _first(tag, rules)) is not None:
            return found
        separator = tag.get(_SEPARATOR) if _SEPARATOR in tag.attributes else _DEFAULT_SEPARATOR
        tree = ChoiceTree(tag, is_nested=True, leaves_only=tag.is_set("leafsonly"))
        if (found := _is_split_wrongly(tag, separator, tree.paths or ())) is not None:
            return found
        is_multiple = _max_usages(tag) >= 2  # paths
        return _tree_question(tree, tag.written("leafsonly"), multiple=is_multiple, path_separator=separator)


def _max_usages(tag: Tag) -> float:
    """Return how many paths an answer may have; like the editor, any number if that is not written as one."""
    try:
        return float(tag.get("maxusages"))
    except ValueError:
        return math.inf


def _is_from_a_server(tag: Tag) -> Objection | None:
    if not tag.get("apiurl"):
        return None
    found = tag.written("apiurl")
    return Objection(
        found,
        f"has {found}, so its labels come from a server and may change: write each label as a <Choice>",
    )


def _labels_parts(tag: Tag) -> Objection | None:
    if not tag.is_set("labeling"):
        return None
    found = tag.written("labeling")
    return Objection(found, f"has {found}, so it labels parts of a text rather than the whole: remove it")


def _is_split_wrongly(tag: Tag, separator: str, paths: Sequence[tuple[str, ...]]) -> Objection | None:
    """Object to a separator by which the editor cannot tell paths apart: it joins them and splits them again."""
    joined = Counter(map(separator.join, paths))
    alike = next((path for path, count in joined.items() if count > 1), None)
    if separator and alike is None:
        return None
    found = tag.written(_SEPARATOR) if _SEPARATOR in tag.attributes else f'pathSeparator="{separator}"'
    why = (
        f"of which the editor writes two as {truncate(alike or '')!r}"
        if alike
        else "which the editor then splits into letters"
    )
    return Objection(found, f"joins its paths by {found}, {why}: set one that no choice contains")


def _first(tag: Tag, rules: Iterable[Callable[[Tag], Objection | None]]) -> Objection | None:
    return next((found for rule in rules if (found := rule(tag)) is not None), None)


def _tree_question(
    tree: ChoiceTree, attribute: str, *, multiple: bool, path_separator: str = ""
) -> Question | Objection:
    labels = tree.labels
    if not labels:  # choices below one without a value
        return Objection(attribute, "has no <Choice> whose parents all have a value")
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        return Objection(attribute, f"has several choices called {mention(twice[0])}: rename one of them")
    return Question(labels, multiple, tree.paths, tree.shown, tree.names, path_separator)


def _has_unknown_choice(tag: Tag) -> Objection | None:
    given = tag.get("choice").strip().lower()
    if given in _CHOICES and ("choice" not in tag.attributes or given):
        return None
    found = tag.written("choice")
    return Objection(
        found,
        f'has {found}, which the editor does not support: use choice="single" or choice="multiple"',
    )


def _has_dynamic_labels(tag: Tag) -> Objection | None:
    for one in (tag, *choices(tag)):
        if _REPLACED.search(one.value):
            found = f'value="{truncate(one.value)}"' if one.text else one.written("value")
            where = f"has {found}" if one is tag else f"has <{one.name} {found}>"
            return Objection(
                found,
                f"{where}, so its labels come from the tasks and differ between them: write each label as a <Choice>",
            )
    return None


def _has_no_choices(tag: Tag) -> Objection | None:
    if any(stored_value(choice) for choice in choices(tag)):
        return None
    return Objection("", "has no <Choice> with a value: add one for each label")


CONTROL_TAGS: Final[Mapping[str, ControlTag]] = {
    tag.name.lower(): tag for tag in (Choices(), Rating(), Taxonomy())
}
"""By their names in lower case, as the editor compares them."""
