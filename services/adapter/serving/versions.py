"""The versions of one project: what its runs have published is dealt with, and what it serves is held.

Reads what is needed from the store, or from memory that was read from there. Only the supervisor's thread may call this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.adapter.metrics import leader
from services.adapter.ports import RolloutStatus
from services.adapter.serving import sentences
from services.adapter.serving.promotions import Promotions
from services.adapter.state.documents import Outcome, ProjectDocuments, VersionOutcome
from services.adapter.training.runs import RunHistory, RunRecord
from services.core.domain import LabelSpace, Project, Published, Served
from services.core.errors import StoreError
from services.core.registry import Registry


@dataclass(slots=True)
class Versions:
    """One project's."""

    promotions: Promotions
    documents: ProjectDocuments
    history: RunHistory
    outcome: VersionOutcome | None = None
    """The last one."""
    refusal: str = ""
    """Why the version of the last verdict is not served, where that is its own fault."""
    problem: str = ""
    """What is wrong with the version that is served."""
    _decided: set[str] = field(default_factory=set)
    _held_at: list[float] = field(default_factory=list)
    """When each version was dealt with that was not promoted."""
    _served_checked: bool = False

    @property
    def served(self) -> Served:
        """What the project serves. Raises StoreError."""
        return self.promotions.served(self.documents.project_key)

    @property
    def target(self) -> str | None:
        """The version that is on its way."""
        return self.promotions.rollouts.target(self.documents.project_key)

    @property
    def rollout_status(self) -> RolloutStatus | None:
        """How far the version is that is on its way."""
        return self.promotions.rollouts.status(self.documents.project_key)

    @property
    def blocked_reason(self) -> str:
        """What keeps that one from being served."""
        return sentences.blocked(self.target, self.rollout_status)

    @property
    def held_in_a_row(self) -> int:
        """Versions that were not promoted since the current one was, by the gate or by hand."""
        since = self.served.since
        return sum(at >= since for at in self._held_at)

    def is_changing(self, now: float) -> bool:
        """Whether the next step may find another state than this one."""
        return not self._served_checked or self.promotions.rollouts.is_changing(
            self.documents.project_key, now
        )

    def is_rolling_out(self) -> bool:
        """Whether a version is on its way and nothing hinders it. Raises StoreError."""
        return self.served.target is not None and not (self.rollout_status and self.rollout_status.blocked)

    def reset(self) -> None:
        """All verdicts are read from the store again."""
        self._decided.clear()
        self._held_at.clear()

    def check_served(self, project: Project, now: float) -> None:
        """After a start, until what is served is held, or the version before it serves."""
        if self._served_checked:
            return
        found = self.promotions.check_served(project, now)
        if isinstance(found, str):
            self.mark_served(found)
        elif self.target is None:
            self.problem = sentences.blocked(self.served.current, found)

    def mark_served(self, problem: str = "") -> None:
        """What is served is held, or nothing more can be done about it."""
        self.problem, self._served_checked = problem, True

    def decide(self, project: Project, control: str | None, show: Callable[[], None], now: float) -> None:
        """Deal with what was published; `show` is called before that takes time. `control`: the one that is learnt now."""
        waiting = self._undecided()
        if not waiting:
            return
        show()  # loading may take seconds, and the run may have ended meanwhile
        published = [_hold_for_other_control(control, *one) for one in waiting.values()]
        verdicts = self.promotions.decide(project, published, self.documents, now)
        for version, (record, _) in waiting.items():
            if version in verdicts:
                self._note(record, verdicts[version])
                self._count_decision(project, version)
                if verdicts[version].fate is Outcome.PROMOTED:
                    self.mark_served()

    def _undecided(self) -> dict[str, tuple[RunRecord, Published]]:
        """Versions without a verdict, oldest first."""
        waiting: dict[str, tuple[RunRecord, Published]] = {}
        for record in self.history.records:
            for published in record.status.published if record.status else ():
                if published.version in self._decided:
                    continue
                if known := self.documents.outcome(published.version):
                    self._note(record, known)
                else:
                    waiting[published.version] = (record, published)
        return waiting

    def _note(self, record: RunRecord, verdict: VersionOutcome) -> None:
        self._decided.add(verdict.version)
        if verdict.fate is not Outcome.PROMOTED:
            self._held_at.append(verdict.at)
        self.outcome = verdict
        self.refusal = verdict.sentence if verdict.fate is Outcome.REFUSED else ""
        if verdict.fate is Outcome.STALE:
            self.history.mark_stale(record.run)

    def _count_decision(self, project: Project, version: str) -> None:
        """What the gate said, once: a verdict is given once. A version that is gone says nothing."""
        with contextlib.suppress(StoreError):
            leader.decided(project.id, self.promotions.table.registry.manifest(project.key, version).gate)


def _hold_for_other_control(control: str | None, record: RunRecord, published: Published) -> Published:
    """What a run has published; held where another control has been picked since the run was asked for."""
    asked = record.request.parameters.control
    if not published.promote or control is None or asked in {None, control}:
        return published
    sentence = f"Held: {published.version} answers {asked!r}, and {control!r} is learnt now."
    return replace(published, promote=False, sentence=sentence)


@dataclass(slots=True)
class ControlCheck:
    """Looks at the manifests of one project's served versions."""

    registry: Registry
    _known: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """By version: its control and its labels."""

    def foreign_versions(self, project_key: str, space: LabelSpace | None, served: Served) -> tuple[str, ...]:
        """Of the versions that people may be told of, those that answer another control."""
        versions = tuple(filter(None, (served.current, served.previous)))
        for gone in self._known.keys() - set(versions):
            del self._known[gone]
        return tuple(
            version for version in versions if space and self._is_foreign(project_key, space, version)
        )

    def _is_foreign(self, project_key: str, space: LabelSpace, version: str) -> bool:
        if version not in self._known:
            try:
                manifest = self.registry.manifest(project_key, version)
            except StoreError:
                return False  # a version that cannot be read answers nothing, and that is said elsewhere
            self._known[version] = (manifest.from_name, manifest.labels)
        control, labels = self._known[version]
        return control != space.from_name if control else not set(labels) & set(space.labels)


def no_suggestions_reason(served: Served, space: LabelSpace | None, foreign: tuple[str, ...]) -> str:
    """Why there are no suggestions of what is served; "" where there are."""
    if space is None or served.current not in foreign:
        return ""
    return (
        f"{served.current} was made for another control than {space.from_name!r}, which is learnt now: there are no "
        "suggestions until a version of it is promoted."
    )
