"""The versions of one project: what its runs have published is dealt with, and what it serves is held.

Reads what is needed from the store, or from memory that was read from there. Only the supervisor's thread may call this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.adapter.metrics import leader
from services.adapter.notebook import Fate, Notebook, Verdict
from services.adapter.ports import RolloutStatus
from services.adapter.serving import sentences
from services.adapter.serving.promotions import Promotions
from services.adapter.training.history import History, Record
from services.core.domain import Project, Published, Served
from services.core.errors import StoreError


@dataclass(slots=True)
class Versions:
    """One project's."""

    promotions: Promotions
    notebook: Notebook
    history: History
    verdict: Verdict | None = None
    """The last one."""
    refusal: str = ""
    """Why the version of the last verdict is not served, where that is its own fault."""
    problem: str = ""
    """What is wrong with the version that is served."""
    _dealt: set[str] = field(default_factory=set)
    _held: list[float] = field(default_factory=list)
    """When each version was dealt with that was not promoted."""
    _restored: bool = False

    @property
    def served(self) -> Served:
        """What the project serves. Raises StoreError."""
        return self.promotions.served(self.notebook.project_key)

    @property
    def coming(self) -> str | None:
        """The version that is on its way."""
        return self.promotions.targets.coming(self.notebook.project_key)

    @property
    def standing(self) -> RolloutStatus | None:
        """How far the version is that is on its way."""
        return self.promotions.targets.standing(self.notebook.project_key)

    @property
    def hindrance(self) -> str:
        """What keeps that one from being served."""
        return sentences.hindered(self.coming, self.standing)

    @property
    def held_in_a_row(self) -> int:
        """Versions that were not promoted since the current one was, by the gate or by hand."""
        since = self.served.since
        return sum(at >= since for at in self._held)

    def is_moving(self, now: float) -> bool:
        """Whether the next step may find another state than this one."""
        return not self._restored or self.promotions.targets.is_moving(self.notebook.project_key, now)

    def is_coming(self) -> bool:
        """Whether a version is on its way and nothing hinders it. Raises StoreError."""
        return self.served.target is not None and not (self.standing and self.standing.blocked)

    def forget(self) -> None:
        """All verdicts are read from the store again."""
        self._dealt.clear()
        self._held.clear()

    def restore(self, project: Project, now: float) -> None:
        """After a start, until what is served is held, or the version before it serves."""
        if self._restored:
            return
        found = self.promotions.restore(project, now)
        if isinstance(found, str):
            self.are_served(found)
        elif self.coming is None:
            self.problem = sentences.hindered(self.served.current, found)

    def are_served(self, problem: str = "") -> None:
        """What is served is held, or nothing more can be done about it."""
        self.problem, self._restored = problem, True

    def take_up(self, project: Project, control: str | None, show: Callable[[], None], now: float) -> None:
        """Deal with what was published; `show` is called before that takes time. `control`: the one that is learnt now."""
        waiting = self._waiting()
        if not waiting:
            return
        show()  # loading may take seconds, and the run may have ended meanwhile
        published = [_unless_of_another(control, *one) for one in waiting.values()]
        verdicts = self.promotions.take_up(project, published, self.notebook, now)
        for version, (record, _) in waiting.items():
            if version in verdicts:
                self._note(record, verdicts[version])
                self._count(project, version)
                if verdicts[version].fate is Fate.PROMOTED:
                    self.are_served()

    def _waiting(self) -> dict[str, tuple[Record, Published]]:
        """Versions without a verdict, oldest first."""
        waiting: dict[str, tuple[Record, Published]] = {}
        for record in self.history.records:
            for published in record.status.published if record.status else ():
                if published.version in self._dealt:
                    continue
                if known := self.notebook.verdict(published.version):
                    self._note(record, known)
                else:
                    waiting[published.version] = (record, published)
        return waiting

    def _note(self, record: Record, verdict: Verdict) -> None:
        self._dealt.add(verdict.version)
        if verdict.fate is not Fate.PROMOTED:
            self._held.append(verdict.at)
        self.verdict = verdict
        self.refusal = verdict.sentence if verdict.fate is Fate.REFUSED else ""
        if verdict.fate is Fate.STALE:
            self.history.mark_stale(record.run)

    def _count(self, project: Project, version: str) -> None:
        """What the gate said, once: a verdict is given once. A version that is gone says nothing."""
        with contextlib.suppress(StoreError):
            leader.decided(project.id, self.promotions.ledger.registry.manifest(project.key, version).gate)


def _unless_of_another(control: str | None, record: Record, published: Published) -> Published:
    """What a run has published; held where another control has been picked since the run was asked for."""
    asked = record.request.parameters.control
    if not published.promote or control is None or asked in {None, control}:
        return published
    sentence = f"Held: {published.version} answers {asked!r}, and {control!r} is learnt now."
    return replace(published, promote=False, sentence=sentence)
