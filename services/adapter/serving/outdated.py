"""Which predictions in Label Studio are outdated: those of versions older than the two that may be served at any moment. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from services.core.domain import Served
from services.core.runs import LABEL_NAMES_ONLY

_NAME: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{1,18})(?P<letter>[a-z]?)", re.DOTALL)


class _Name(NamedTuple):
    stem: str
    age: tuple[bool, int, str]
    """Whether it was trained on labels, number and letter: versions from label names, with numbers of their own, come before all others."""


def is_outdated(version: object, served: Served) -> bool:
    """Return whether predictions of `version` may be deleted from Label Studio.

    It must be older than the served version or the previous one, none of those in use, and named like one of them: `<stem>-<n>`,
    `<stem>-<n><letter>` for the versions of one run, or `<stem>-label-names-only-<n>`. Predictions that people imported have other names, and are kept.
    """
    served_names = [name for name in map(_parse, (served.current, served.previous)) if name]
    in_use = (served.current, served.previous, served.target)
    name = _parse(version)
    if name is None or version in in_use or not served_names:
        return False
    newest = max(served_name.age for served_name in served_names)
    return name.stem in _stems(in_use) and name.age < newest


def _stems(versions: Iterable[str | None]) -> set[str]:
    return {name.stem for name in map(_parse, versions) if name}


def _parse(version: object) -> _Name | None:
    found = _NAME.fullmatch(version) if isinstance(version, str) else None
    if found is None:
        return None
    stem = found["stem"].removesuffix(LABEL_NAMES_ONLY)
    return _Name(stem, (stem == found["stem"], int(found["number"]), found["letter"]))
