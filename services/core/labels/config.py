"""Label configs: which controls classify the whole text, why others cannot be trained on, and which one is chosen. Pure.

Fitloop learns one control (`control_tags`) over one Text, HyperText or Paragraphs that shows a variable of the task. Everything
else is refused with a message that names tag and attribute; a refusal never hides a usable control further down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from services.core.domain import LabelSpace
from services.core.errors import NoLabelSpace
from services.core.labels import refusals
from services.core.labels.control_tags import CONTROL_TAGS
from services.core.labels.markup import Tag, read_markup, truncate
from services.core.labels.refusals import Names, Objection

_MAX_LISTED: Final = 12
"""Controls that a message lists."""
_WAYS: Final = (
    "Name one of {} in FITLOOP_CONTROLS, or as `control` of the project or of its backend's extra parameters"
)
_KNOWN: Final = " or ".join(f"<{kind.name}>" for kind in CONTROL_TAGS.values())


@dataclass(frozen=True, slots=True)
class Control:
    """A control that asks for the label, or the labels, of a whole text."""

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
    None: the first usable control that is not conditional, a Choices before others, one with a single choice before one with several.
    """
    found = list_controls(label_config)
    chosen = _by_name(found, control) if control else _first_usable(found)
    others = [other for other in found if other is not chosen]
    space = chosen.space
    note = f"{space.control_tag} {space.from_name!r} over {space.text_tag} {space.to_name!r}"
    if space.multiple and space.control_tag == "Taxonomy":  # its default, though not always meant
        note += ', several labels a text (maxUsages="1" allows one)'
    return replace(
        space, note=note + (f" (skipped: {_listed(others)})" if others else "") + _how_to_choose(others)
    )


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
    return tag.kind in CONTROL_TAGS or bool(tag.get("toname") and tag.kind != "filter")


def _control(tag: Tag, names: Names) -> Control | UnusableControl:
    kind = CONTROL_TAGS.get(tag.kind)
    if kind is None:
        return _unusable(tag, Objection("", f"is no {_KNOWN}, the controls that Fitloop trains on"))
    objection = refusals.find_objection(tag, names)
    if objection is not None:
        return _unusable(tag, objection)
    question = kind.read(tag)
    if isinstance(question, Objection):
        return _unusable(tag, question)
    text = refusals.text_tag(tag, names)
    space = LabelSpace(
        from_name=tag.get("name"),
        to_name=text.get("name"),
        text_value=text.value,
        labels=question.labels,
        paths=question.paths,
        text_tag=refusals.TEXT_TAGS[text.kind],
        text_attributes=_text_attributes(text),
        shown=question.shown,
        names=question.names,
        multiple=question.multiple,
        control_tag=kind.name,
        path_separator=question.path_separator,
    )
    condition = refusals.visibility_condition(tag)
    # Label Studio demands an answer to a required control, and a control that was not shown was not answered with nothing.
    empty_counts = space.multiple and not tag.is_set("required") and not condition
    return Control(replace(space, empty_counts=empty_counts), condition)


def _text_attributes(text: Tag) -> dict[str, str]:
    return {name: value for name, (_, value) in text.attributes.items() if name not in {"name", "value"}}


def _unusable(tag: Tag, objection: Objection) -> UnusableControl:
    return UnusableControl(tag.name, tag.get("name"), objection.attribute, objection.reason)


def _first_usable(found: tuple[Control | UnusableControl, ...]) -> Control:
    usable = [one for one in found if isinstance(one, Control) and not one.condition]
    if usable:  # a project goes on learning what earlier releases did: a single choice, then several, and no other tag
        return min(usable, key=lambda one: (one.space.control_tag != "Choices", one.space.multiple))
    detail = _listed(found) or "it has no such control"
    raise NoLabelSpace(
        f"The label config needs a {_KNOWN} over one <Text>, <HyperText> or <Paragraphs>, for example "
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
    advice = _WAYS.format(usable) if usable else "None of its other controls can be used either"
    asked = ", ".join(map(repr, names)) or repr(wanted)
    why = f"it cannot be used: {_listed(known)}" if known else "the label config has no such control"
    raise NoLabelSpace(f"The settings choose control {asked}, but {why}. {advice}.")


def _how_to_choose(others: Iterable[Control | UnusableControl]) -> str:
    """Return how to train on one of the others instead; "" if none of them can be used."""
    usable = [repr(one.name) for one in others if isinstance(one, Control)][:_MAX_LISTED]
    return (
        f". One control of a project is trained. {_WAYS.format(', '.join(usable))} instead" if usable else ""
    )


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
            f"{one.space.control} is only shown in some tasks, because of {one.condition}: "
            f"set FITLOOP_CONTROLS={one.name} to train on it anyway"
        )
    return f"{one.space.control} is not the chosen control"
