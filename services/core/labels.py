"""Label configs, texts and results: which question Fitloop answers, where the text stands, what an annotation says.

Parsing is label-studio-sdk's LabelInterface, which this module and core.labelstudio alone import.
Everything here is pure.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from label_studio_sdk.label_interface import LabelInterface
from lxml import etree

from services.core.domain import LabelSpace
from services.core.errors import NoLabelSpace

_VARIABLE = re.compile(r"\$(\w+(?:\.\w+|\[\d+\])*)")
_STEP = re.compile(r"\w+")


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


def text_of(space: LabelSpace, data: object) -> str | None:
    """The text that the Text tag shows for a task's data; None where there is none to read."""
    if not isinstance(data, Mapping):
        return None
    names = _VARIABLE.findall(space.text_value)
    if not names:
        return None
    values = [_look_up(data, name) for name in names]
    if not all(isinstance(value, str) for value in values):
        return None
    remaining = iter(values)
    text = _VARIABLE.sub(lambda _: str(next(remaining)), space.text_value)
    return text if any(character.isalnum() for character in text) else None


def labels_of(space: LabelSpace, result: object) -> tuple[str, ...]:
    """The labels that an annotation's result gives under `from_name`, in order, known ones or not."""
    by_path = dict(zip(space.paths or (), space.labels, strict=False))
    found: list[str] = []
    for region in result if isinstance(result, Sequence) and not isinstance(result, str) else ():
        if not isinstance(region, Mapping) or region.get("from_name") != space.from_name:
            continue
        value = region.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        for choice in choices if isinstance(choices, list) else ():
            label = _label(choice, by_path)
            if label is not None and label not in found:
                found.append(label)
    return tuple(found)


def region_of(space: LabelSpace, label: str, score: float) -> dict[str, Any]:
    """The region that Label Studio stores for a predicted label, with its calibrated probability."""
    choice: Any = label
    if space.paths is not None:
        choice = list(space.paths[space.labels.index(label)])
    return {
        "from_name": space.from_name,
        "to_name": space.to_name,
        "type": "choices",
        "value": {"choices": [choice]},
        "score": score,
    }


def is_usable(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation says anything: not cancelled (skipped) and not empty."""
    return not annotation.get("was_cancelled") and bool(annotation.get("result"))


def signature(annotations: Iterable[Mapping[str, Any]]) -> str | None:
    """Twelve hex digits that change with any edit, deletion or addition; None for a task without a label."""
    stamps = sorted(
        f"{annotation.get('id')}@{annotation.get('updated_at')}"
        for annotation in annotations
        if is_usable(annotation)
    )
    return hashlib.sha256("|".join(stamps).encode()).hexdigest()[:12] if stamps else None


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


def _label(choice: object, by_path: Mapping[tuple[str, ...], str]) -> str | None:
    """The label of one entry of a result: a text, or a path from the root where the config nests.

    A path that the config no longer has is a label that it no longer has, whatever else is called like its end.
    """
    if not isinstance(choice, list):
        return choice if isinstance(choice, str) else None
    if not choice or not all(isinstance(name, str) for name in choice):
        return None
    return by_path.get(tuple(choice), " > ".join(choice) if by_path else choice[-1])


def _look_up(data: Mapping[str, Any], name: str) -> Any:
    if name in data:
        return data[name]
    value: Any = data
    for step in _STEP.findall(name):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
