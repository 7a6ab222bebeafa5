"""Label configs: which control Fitloop learns, and why the others are not learnt. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from label_studio_sdk.label_interface import LabelInterface
from lxml import etree

from services.core.domain import LabelSpace
from services.core.errors import NoLabelSpace


def parse_label_space(label_config: str) -> LabelSpace:
    """The first single-choice Choices that reads a Text. Raises NoLabelSpace with what is missing."""
    try:
        interface = LabelInterface(label_config)
        controls, objects = list(interface.controls), {tag.name: tag for tag in interface.objects}
    except Exception as error:  # the parser raises whatever the XML provokes; each means the same to a person
        raise NoLabelSpace(f"The label config cannot be read: {error}") from error
    taken, passed_over = None, []
    for control in controls:
        reason = _why_not(control, objects)
        if reason is None and taken is None:
            taken = control
        else:
            passed_over.append(f"{control.name!r} {reason or 'comes later'}")
    if taken is None:
        detail = "; ".join(passed_over) or "it has no Choices"
        raise NoLabelSpace(
            "The label config needs a single-choice <Choices> that reads a <Text>, for example "
            '<Text name="text" value="$text"/><Choices name="label" toName="text">…</Choices>: '
            f"{detail}."
        )
    text = next(name for name in taken.to_name if _reads_text(objects.get(name)))
    note = f"Choices {taken.name!r} over Text {text!r}"
    paths = _paths(label_config, taken)
    return LabelSpace(
        from_name=taken.name,
        to_name=text,
        text_value=objects[text].value,
        labels=tuple(taken.labels) if paths is None else _names(paths),
        paths=paths,
        note=note + (f" (passed over: {'; '.join(passed_over)})" if passed_over else ""),
    )


def label_config_hash(label_config: str) -> str:
    """Twelve hex digits that change when the config does."""
    return hashlib.sha256(label_config.encode()).hexdigest()[:12]


def _why_not(control: Any, objects: Mapping[str, Any]) -> str | None:
    if control.tag != "Choices":
        return f"is a {control.tag}"
    if not any(_reads_text(objects.get(name)) for name in control.to_name):
        return "reads no Text with the text in the task itself"
    if str(control.attr.get("choice", "single")).startswith("multiple"):
        return 'has choice="multiple", which Fitloop does not learn yet'
    if not control.labels:
        return "has no Choice of its own"
    return None


def _reads_text(tag: Any) -> bool:
    return tag is not None and tag.tag == "Text" and str(tag.attr.get("valueType", "text")) == "text"


def _paths(label_config: str, control: Any) -> tuple[tuple[str, ...], ...] | None:
    """With `allowNested`, each choice's path from the root: the SDK lists them flat, so their parents come from the XML."""
    if str(control.attr.get("allowNested", "")).lower() != "true":
        return None
    tree = etree.fromstring(label_config.encode(), etree.XMLParser(resolve_entities=False))
    own = next(element for element in tree.iter("Choices") if element.get("name") == control.name)
    paths = []
    for choice in own.iter("Choice"):
        names = [
            element.get("alias") or element.get("value")
            for element in (choice, *choice.iterancestors("Choice"))
        ]
        paths.append(tuple(reversed(names)))
    return tuple(dict.fromkeys(path for path in paths if all(path)))


def _names(paths: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """A label for each path: its last choice, or the whole path where several end in the same."""
    ends = Counter(path[-1] for path in paths)
    labels = tuple(path[-1] if ends[path[-1]] == 1 else " > ".join(path) for path in paths)
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise NoLabelSpace(
            f"The label config has several choices that read {twice[0]!r}: rename one of them."
        )
    return labels
