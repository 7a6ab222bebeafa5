"""Change notices: a summary of one project's events, from the replica that received them to the leader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.core.documents import FORMAT, Extensible


@dataclass(frozen=True, slots=True)
class ChangeNotice(Extensible):
    """A project's events, and the data of its /setup request; also inbox/hint-<project id>.json, of earlier releases."""

    project_id: int
    actions: tuple[str, ...] = ()
    """Names of events, each once; SETUP for a project that is not connected yet."""
    overrides: dict[str, str] | None = None
    """Run parameters from /setup's extra_params; None if there were none."""
    seen_url: str = ""
    """The URL by which Label Studio reached us; "" if there was only an event."""
    at: float = 0.0
    format: int = FORMAT

    def merge(self, later: ChangeNotice) -> ChangeNotice:
        """Combine both; the later values win."""
        return replace(
            self,
            actions=tuple(dict.fromkeys((*self.actions, *later.actions))),
            overrides=self.overrides if later.overrides is None else later.overrides,
            seen_url=later.seen_url or self.seen_url,
            at=max(self.at, later.at),
            unknown={**self.unknown, **later.unknown},
        )


def merge_notices(notices: Iterable[ChangeNotice]) -> list[ChangeNotice]:
    """Return one notice per project, in the order in which the projects first appear; the values of later ones win."""
    merged: dict[int, ChangeNotice] = {}
    for notice in notices:
        known = merged.get(notice.project_id)
        merged[notice.project_id] = known.merge(notice) if known else notice
    return list(merged.values())


@dataclass(frozen=True, slots=True)
class NoticeBatch:
    """inbox/events-<id>.json: what one replica has received since its last one."""

    notices: tuple[ChangeNotice, ...] = ()
    format: int = FORMAT
