"""Why a control cannot be used as the label of a whole text, whatever its tag: one function per rule, in order of precedence. Pure.

The rules are those of Label Studio's editor: what it shows, when it shows it, and what it stores.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from services.core.labels.markup import Tag

TEXT_TAGS: Final[Mapping[str, str]] = {"text": "Text", "hypertext": "HyperText", "paragraphs": "Paragraphs"}
"""Tags that show text, by their names in lower case."""
_VARIABLE: Final = re.compile(r"\$[\[\].{}]*\w", re.ASCII)
"""The editor's own expression: names in other alphabets are not replaced."""
_CONTAINERS: Final = frozenset({"view", "collapse", "panel"})
"""Tags that only arrange their content."""
_VALUE_TYPES: Final = {"text": "text", "hypertext": "text", "paragraphs": "json"}
_CONTROLS: Final = frozenset({"choices", "taxonomy", "pairwise", "labels", "filter", "shortcut"})
"""Controls that may have a value."""
_NAMELESS: Final = frozenset({"choice", "label", "view", "header", "style"})
"""Tags whose names nothing refers to."""


@dataclass(frozen=True, slots=True)
class Names:
    """The tags of a label config that others refer to."""

    tags: Mapping[str, tuple[Tag, ...]]
    """By their names."""
    objects: tuple[Tag, ...]
    """Tags that show data of a task."""

    @classmethod
    def of(cls, tags: Iterable[Tag]) -> Self:
        """Collect them from all tags of a config."""
        found: dict[str, tuple[Tag, ...]] = {}
        objects = []
        for tag in tags:
            name = tag.get("name")
            if not name or tag.kind in _NAMELESS:
                continue
            found[name] = (*found.get(name, ())[:2], tag)  # two show that it is not unique
            if tag.kind in TEXT_TAGS or (tag.value and not tag.get("toname") and tag.kind not in _CONTROLS):
                objects.append(tag)
        return cls(found, tuple(objects))


@dataclass(frozen=True, slots=True)
class Objection:
    """Why one control cannot be used."""

    attribute: str
    """As written; "" if the reason is not an attribute."""
    reason: str
    """Continues a sentence that begins with the control."""


def find_objection(tag: Tag, names: Names) -> Objection | None:
    """Return the first reason why a control of any tag cannot be used; None if there is none."""
    return next((found for rule in _RULES if (found := rule(tag, names)) is not None), None)


def visibility_condition(tag: Tag) -> str:
    """Return the attribute that hides the control in some tasks, with the enclosing tag if it is on one; "" if there is none."""
    for one in (tag, *tag.ancestors()):
        for attribute in ("visiblewhen", "whenchoicevalue"):
            if one.get(attribute):
                return one.written(attribute) + ("" if one is tag else f" of the {one} around it")
    return ""


def text_tag(tag: Tag, names: Names) -> Tag:
    """Return the object tag that a usable control reads."""
    return next(found for found in _target_tags(tag, names) if found.kind in TEXT_TAGS)


def _has_no_name(tag: Tag, _: Names) -> Objection | None:
    if tag.get("name"):
        return None
    return Objection("", "has no name, so its answers cannot be told apart from others: give it a name")


def _shares_name(tag: Tag, names: Names) -> Objection | None:
    if len(names.tags.get(tag.get("name"), ())) == 1:
        return None
    return Objection(tag.written("name"), "has the same name as another tag: rename one of them")


def _is_in_repeater(tag: Tag, _: Names) -> Objection | None:
    around = next((one for one in tag.ancestors() if one.kind == "repeater"), None)
    if around is None:
        return None
    on = around.written("on")
    return Objection(on, f"is inside <Repeater {on}>, which repeats it for each item: move it out")


def _is_in_unknown_tag(tag: Tag, _: Names) -> Objection | None:
    around = next((one for one in tag.ancestors() if one.kind not in _CONTAINERS), None)
    if around is None:
        return None
    return Objection("", f"is inside {around}, which does not show such a control: move it out")


def _is_per_region(tag: Tag, _: Names) -> Objection | None:
    for attribute, part in (("perregion", "a region"), ("peritem", "an item")):
        if tag.is_set(attribute):
            found = tag.written(attribute)
            return Objection(
                found, f"has {found}, so it is answered for {part} rather than for the whole text: remove it"
            )
    return None


def _is_conditional(tag: Tag, _: Names) -> Objection | None:
    for one in (tag, *tag.ancestors()):
        for attribute in ("visiblewhen", "whenrole"):
            is_gate = attribute == "whenrole" or one.get(attribute).strip().lower() == "region-selected"
            if one.get(attribute) and is_gate:
                found = one.written(attribute)
                where = f"has {found}" if one is tag else f"is inside {one} with {found}"
                return Objection(found, f"{where}, so it is only shown for a selected region: remove it")
    return None


def _is_read_only(tag: Tag, _: Names) -> Objection | None:
    if not tag.is_set("readonly"):
        return None
    found = tag.written("readonly")
    return Objection(found, f"has {found}, so it cannot be answered: remove it")


def _has_no_single_target(tag: Tag, names: Names) -> Objection | None:
    found = tag.written("toname")
    if "," in tag.get("toname"):
        return Objection(
            found,
            f"has {found}, so it reads several tags, but a model is trained on one text: name one of them",
        )
    objects = _target_tags(tag, names)
    if tag.get("toname"):
        why = f"has {found}, but the label config has no such tag" if not objects else ""
    else:
        why = "has no toName" if len(objects) != 1 else ""
    if not why and len(objects) > 1:
        why = f"has {found}, but several tags have that name"
    return Objection(found, f"{why}: name the <Text> that it reads") if why else None


def _has_no_text_target(tag: Tag, names: Names) -> Objection | None:
    source = _target_tags(tag, names)[0]
    found = tag.written("toname")
    if source.kind not in TEXT_TAGS:
        return Objection(
            found, f"reads {source}, but only <Text>, <HyperText> and <Paragraphs> are supported"
        )
    if any(one.kind not in _CONTAINERS for one in source.ancestors()):
        around = next(one for one in source.ancestors() if one.kind not in _CONTAINERS)
        return Objection(found, f"reads {source}, which is inside {around}: move it out")
    given = source.get("valuetype").strip().lower()
    if given and given != _VALUE_TYPES[source.kind]:
        attribute = source.written("valuetype")
        return Objection(
            attribute,
            f"reads {source} with {attribute}: the task must contain the text itself, not its URL",
        )
    if not _VARIABLE.search(source.value):
        attribute = source.written("value")
        return Objection(
            attribute,
            f"reads {source} with {attribute}, which is the same in every task: use a $variable",
        )
    return None


def _target_tags(tag: Tag, names: Names) -> tuple[Tag, ...]:
    """Return the tags that it names; if it names none, the editor uses the config's only object."""
    wanted = tag.get("toname")
    return tuple(one for one in names.tags.get(wanted, ()) if one is not tag) if wanted else names.objects


_RULES: Final[tuple[Callable[[Tag, Names], Objection | None], ...]] = (
    _has_no_name,
    _is_in_repeater,
    _is_in_unknown_tag,
    _shares_name,
    _is_per_region,
    _is_conditional,
    _has_no_single_target,
    _has_no_text_target,
    _is_read_only,
)
