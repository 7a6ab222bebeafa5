"""Label configs: which controls classify the whole text, why others cannot be trained on, and which one is chosen. Pure.

Fitloop learns a single-choice Choices over one Text, HyperText or Paragraphs that shows a variable of the task. Everything
else is refused with a message that names tag and attribute; a refusal never hides a usable control further down.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from services.core.domain import LabelSpace
from services.core.errors import NoLabelSpace
from services.core.labels import refusals
from services.core.labels.markup import Tag, read_markup, truncate
from services.core.labels.refusals import Names, Objection

_MAX_LISTED: Final = 12
"""Controls that a message lists."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control that asks for the one label of a whole text."""

    space: LabelSpace
    condition: str = ""
    """Tag and attribute that show it in some tasks only; such a control is used only if a setting names it."""

    @property
    def name(self) -> str:
        """Return the name under which annotations store its answers."""
        return self.space.from_name


@dataclass(frozen=True, slots=True)
class UnusableControl:
    """A control that cannot be trained on."""

    tag: str
    name: str
    attribute: str
    """As written: `perRegion="true"`; "" if the reason is not an attribute."""
    reason: str
    """Why, and what to do, for people."""

    def __str__(self) -> str:
        named = f' name="{truncate(self.name)}"' if self.name else ""
        return f"<{self.tag}{named}> {self.reason}"


def parse_label_space(label_config: str, control: str | None = None) -> LabelSpace:
    """Return the question to learn. Raises NoLabelSpace that says what is missing.

    `control`: a name from the settings, or several separated by commas, of which the first usable one is chosen;
    None: the first usable control that is not conditional.
    """
    found = list_controls(label_config)
    chosen = _by_name(found, control) if control else _first_usable(found)
    others = _listed(other for other in found if other is not chosen)
    space = chosen.space
    note = f"Choices {space.from_name!r} over {space.text_tag} {space.to_name!r}"
    return replace(space, note=note + (f" (skipped: {others})" if others else ""))


@lru_cache(maxsize=512)
def list_controls(label_config: str) -> tuple[Control | UnusableControl, ...]:
    """List all controls in the config's order. Raises NoLabelSpace if the config cannot be parsed."""
    root = read_markup(label_config)
    tags = (root, *root.descendants())
    names = Names.of(tags)
    return tuple(_control(tag, names) for tag in tags if _is_control(tag))


def label_config_hash(label_config: str) -> str:
    """Return twelve hex digits that change with the config."""
    return hashlib.sha256(label_config.encode(errors="surrogatepass")).hexdigest()[:12]


def _is_control(tag: Tag) -> bool:
    return tag.kind == "choices" or bool(tag.get("toname") and tag.kind != "filter")


def _control(tag: Tag, names: Names) -> Control | UnusableControl:
    objection = refusals.find_objection(tag, names)
    if objection is not None:
        return _unusable(tag, objection)
    text = refusals.text_tag(tag, names)
    paths = _paths(tag)
    labels = _labels(tag, paths)
    if not labels:  # with `allowNested`: choices below one without a value
        return _unusable(
            tag, Objection(tag.written("allownested"), "has no <Choice> whose parents all have a value")
        )
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        reason = f"has several choices called {twice[0]!r}: rename one of them"
        return _unusable(tag, Objection(tag.written("allownested"), reason))
    attributes = {
        name: value for name, (_, value) in text.attributes.items() if name not in {"name", "value"}
    }
    space = LabelSpace(
        from_name=tag.get("name"),
        to_name=text.get("name"),
        text_value=text.value,
        labels=labels,
        paths=paths,
        text_tag=refusals.TEXT_TAGS[text.kind],
        text_attributes=attributes,
        shown=_shown(tag, paths, labels),
    )
    return Control(space, refusals.visibility_condition(tag))


def _unusable(tag: Tag, objection: Objection) -> UnusableControl:
    return UnusableControl(tag.name, tag.get("name"), objection.attribute, objection.reason)


def _paths(tag: Tag) -> tuple[tuple[str, ...], ...] | None:
    """Return each choice's path from the root if the config has `allowNested`, since annotations hold paths then; else None."""
    if not tag.is_set("allownested"):
        return None
    paths = []
    for choice in refusals.choices(tag):
        names = [refusals.stored_value(one) for one in (choice, *choice.ancestors()) if one.kind == "choice"]
        paths.append(tuple(reversed(names)))
    return tuple(dict.fromkeys(path for path in paths if all(path)))


def _labels(tag: Tag, paths: tuple[tuple[str, ...], ...] | None) -> tuple[str, ...]:
    """Return the labels that annotations hold: of each path its last choice, or the whole path if several end in the same one."""
    if paths is None:
        names = map(refusals.stored_value, refusals.choices(tag))
        return tuple(dict.fromkeys(name for name in names if name))
    ends = Counter(path[-1] for path in paths)
    return tuple(path[-1] if ends[path[-1]] == 1 else " > ".join(path) for path in paths)


def _shown(tag: Tag, paths: tuple[tuple[str, ...], ...] | None, labels: tuple[str, ...]) -> dict[str, str]:
    """Map what the editor shows to the label, where annotations hold an alias; omit what two choices show."""
    by_path = dict(zip(paths or ((label,) for label in labels), labels, strict=True))
    found: dict[str, str | None] = {}
    for choice in refusals.choices(tag):
        above = choice.ancestors() if paths is not None else ()
        way = [one for one in (choice, *above) if one.kind == "choice"][::-1]
        shown, stored = tuple(one.value for one in way), tuple(map(refusals.stored_value, way))
        name = " > ".join(shown)
        found[name] = by_path.get(stored) if shown != stored and name not in found else None
    return {name: label for name, label in found.items() if label and name not in labels}


def _first_usable(found: tuple[Control | UnusableControl, ...]) -> Control:
    chosen = next((one for one in found if isinstance(one, Control) and not one.condition), None)
    if chosen is not None:
        return chosen
    detail = _listed(found) or "it has no <Choices>"
    raise NoLabelSpace(
        "The label config needs a single-choice <Choices> over one <Text>, <HyperText> or <Paragraphs>, for example "
        '<Text name="text" value="$text"/><Choices name="label" toName="text">…</Choices>: '
        f"{detail}."
    )


def _by_name(found: tuple[Control | UnusableControl, ...], wanted: str) -> Control:
    by_name = {one.name: one for one in reversed(found)}
    names = [wanted] if wanted in by_name else [name.strip() for name in wanted.split(",") if name.strip()]
    known = [by_name[name] for name in names if name in by_name]
    chosen = next((one for one in known if isinstance(one, Control)), None)
    if chosen is not None:
        return chosen
    usable = ", ".join([repr(one.name) for one in found if isinstance(one, Control)][:_MAX_LISTED])
    advice = (
        f"Name one of {usable} in FITLOOP_CONTROLS, or as `control` of the project or of its backend's extra parameters"
        if usable
        else "None of its other controls can be used either"
    )
    asked = ", ".join(map(repr, names)) or repr(wanted)
    why = f"it cannot be used: {_listed(known)}" if known else "the label config has no such control"
    raise NoLabelSpace(f"The settings choose control {asked}, but {why}. {advice}.")


def _listed(controls: Iterable[Control | UnusableControl]) -> str:
    """List the controls with the reasons against them, up to a readable length."""
    lines = [_why_not_chosen(one) for one in controls]
    more = [f"and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
    return "; ".join([*lines[:_MAX_LISTED], *more])


def _why_not_chosen(one: Control | UnusableControl) -> str:
    if isinstance(one, UnusableControl):
        return str(one)
    if one.condition:
        return (
            f'<Choices name="{one.name}"> is only shown in some tasks, because of {one.condition}: '
            f"set FITLOOP_CONTROLS={one.name} to train on it anyway"
        )
    return f'<Choices name="{one.name}"> is not the chosen control'
