"""Which encoders are deleted: those that no version, no run and no configured base model needs, in two steps a day apart.

First an encoder is retired: its aliases are deleted, so that no run finds it without reading its base model, and a mark is
written, which a run deletes that needs it all the same. A day later it is deleted if, since then, each project's manifests
were read, none names it, and every run that may have found it before has ended. What cannot be read might name anything:
then nothing is retired or deleted. All functions here are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.adapter.state.project_state import EncoderReferences
from services.core.encoder_listing import Alias, EncoderListing, StoredEncoder

DAY_SECONDS: Final = 86_400.0
_SKEW_SECONDS: Final = 120.0
"""By which the clocks of two leaders may differ."""
_MAX_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class ProjectUse:
    """What is known of the encoders that one project needs."""

    project: str
    """Its key."""
    references: EncoderReferences | None = None
    """What its manifests name; None: they have not been read yet."""
    has_unswept: bool = False
    """Whether a run has ended since its manifests were read."""
    run_requested_at: float | None = None
    """When its active run was requested; None: it has none."""
    base_models: frozenset[str] = frozenset()
    """Of its active run, and of the next one."""
    served: frozenset[str] = frozenset()
    """Encoders of the versions that it serves, has served or rolls out."""


class Fate(StrEnum):
    """What happens to an encoder now."""

    KEPT = "kept"
    RETIRED = "retired"
    """It is to be retired: its aliases are deleted and the mark is written."""
    WAITING = "waiting"
    """It stays as it is, retired or not, until more is known or time has passed."""
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one encoder, and why, as a phrase."""

    encoder: StoredEncoder
    fate: Fate
    why: str


def decide(
    listing: EncoderListing, uses: Sequence[ProjectUse], unknown: str, default_base: str, now: float
) -> list[Decision]:
    """Decide on all encoders. `uses`: of all projects in the bucket; `unknown`: why some are not known, "" if all are.

    `default_base`: the base model of projects to come.
    """
    bases = frozenset({default_base}).union(*(use.base_models for use in uses))
    unknown = unknown or unknown_reason(uses)
    found = []
    for encoder in listing.encoders.values():
        aliases = [alias for alias in listing.aliases if alias.digest == encoder.digest]
        fate, why = _decide(encoder, aliases, uses, unknown, bases, now)
        found.append(Decision(encoder, fate, why))
    return found


def needed_by(digest: str, uses: Iterable[ProjectUse]) -> list[str]:
    """Return which versions name the encoder, as `<project>/<version>`, and projects that serve one which is not known yet."""
    names = []
    for use in uses:
        versions = use.references.versions if use.references else {}
        mine = [f"{use.project}/{name}" for name, needed in versions.items() if needed == digest]
        names += mine or ([use.project] if digest in use.served else [])
    return names


def unknown_reason(uses: Iterable[ProjectUse]) -> str:
    """Return why it is not known which encoders are needed; "" if it is."""
    unread, broken = list[str](), list[str]()
    for use in uses:
        if use.references is None:
            unread.append(use.project)
        else:
            broken += [f"{use.project}/{version}" for version in use.references.unreadable]
    if broken:
        return f"{_listed(broken)} cannot be read and may need it: restore or delete what is broken"
    if unread:
        return f"the versions of project {_listed(unread)} have not been read yet"
    return ""


def _decide(
    encoder: StoredEncoder,
    aliases: Sequence[Alias],
    uses: Sequence[ProjectUse],
    unknown: str,
    bases: frozenset[str],
    now: float,
) -> tuple[Fate, str]:
    if why := _keeping_reason(encoder, aliases, uses, bases, now):
        return Fate.KEPT, why
    if unknown:
        return Fate.WAITING, unknown
    if encoder.retired_at is None or aliases:  # a run that has made it anew has written an alias
        return Fate.RETIRED, "no version needs it: it is deleted a day later, unless a run needs it"
    if why := _waiting_reason(encoder.retired_at, uses, now):
        return Fate.WAITING, f"no version needs it: {why}"
    return Fate.DELETED, "no version has needed it for a day"


def _keeping_reason(
    encoder: StoredEncoder,
    aliases: Sequence[Alias],
    uses: Sequence[ProjectUse],
    bases: frozenset[str],
    now: float,
) -> str:
    if users := needed_by(encoder.digest, uses):
        return f"needed by {_listed(users)}"
    if wanted := next((alias.base_model for alias in aliases if alias.base_model in bases), ""):
        return f"runs begin with {wanted}"
    newest = max([encoder.modified, *(alias.modified for alias in aliases)])
    return "younger than a day" if now - newest <= DAY_SECONDS else ""


def _waiting_reason(retired_at: float, uses: Iterable[ProjectUse], now: float) -> str:
    """Return what the deletion of an encoder that nothing seems to need waits for; "" for nothing."""
    if (left := retired_at + DAY_SECONDS - now) > 0:
        return f"it is deleted in {max(1, round(left / 3600))} h"
    since = retired_at + _SKEW_SECONDS
    for use in uses:
        if use.run_requested_at is not None and use.run_requested_at <= since:
            return f"a run of project {use.project} that is older than this is still active"
        if use.has_unswept or use.references is None or use.references.read_at <= since:
            return f"the versions of project {use.project} have not been read since"
    return ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
