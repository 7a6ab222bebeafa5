"""A task with which a class is warmed up, made from the label config. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from services.core.errors import NoLabelSpace
from services.core.labels.markup import Tag, read_markup

_TEXT: Final = "a text of a few words"
_TEXTUAL: Final = frozenset({"text", "hypertext"})
_VARIABLE: Final = re.compile(r"\$([A-Za-z_]\w*)")


def warm_up_task(label_config: str) -> dict[str, Any] | None:
    """Return a task that shows texts; None if tasks of the config show anything else: no class could answer a made-up image."""
    try:
        root = read_markup(label_config)
    except NoLabelSpace:
        return None
    shown = [tag for tag in root.descendants() if _is_object(tag)]
    if not shown or any(tag.kind not in _TEXTUAL for tag in shown):
        return None
    names = [name for tag in shown for name in _VARIABLE.findall(tag.get("value"))]
    return {"id": 0, "data": dict.fromkeys(names, _TEXT)} if names else None


def _is_object(tag: Tag) -> bool:
    """Return whether the tag shows a part of the task."""
    return bool(tag.get("name")) and not tag.get("toname") and tag.get("value").startswith("$")
