"""The versions of one project: published ones are decided, and the served one is loaded and answers the control in use.

Reads from the store, or from memory that was read from there. Only the controller's thread may call this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.adapter.metrics import leader_metrics
from services.adapter.serving import messages
from services.adapter.serving.manifest_cache import Origin
from services.adapter.serving.promotions import ProjectPromotions
from services.adapter.serving.rollouts import ProjectRollout
from services.adapter.state.documents import PromotionResult, VersionOutcome
from services.adapter.state.project_state import RunRecord, with_names_run
from services.adapter.training.cold_start import ColdStart
from services.adapter.training.runs import RunHistory
from services.core.domain import LabelSpace, Published, Served

_DECIDING_SECONDS: Final = 5.0


@dataclass(slots=True)
class ProjectVersions:
    """The versions of one project."""

    promotions: ProjectPromotions
    history: RunHistory
    is_cold_start_on: bool = False
    """FITLOOP_COLD_START."""
    rollout: ProjectRollout = field(init=False)
    outcome: VersionOutcome | None = None
    """The last one."""
    refusal: str = ""
    """Why the version decided last is not served, if a predictor refused it."""
    problem: str = ""
    """What is wrong with the served version."""
    _outcomes: dict[str, VersionOutcome] = field(default_factory=dict)
    _held_at: list[float] = field(default_factory=list)
    """When each version was decided that was not promoted."""
    _served_checked: bool = False
    _has_undecided: bool = False
    """Whether a published version has no outcome yet, and may get one in the next step: not one of a newer release."""
    _undecided_since: float = 0.0

    def __post_init__(self) -> None:
        self.rollout = self.promotions.rollout

    @property
    def blocked_reason(self) -> str:
        """Why the rollout is blocked; "" if it is not."""
        return messages.blocked(self.rollout.target, self.rollout.status)

    @property
    def held_in_a_row(self) -> int:
        """How many versions were not promoted since the current one was, by the gate or by hand."""
        since = self.rollout.served.since
        return sum(at >= since for at in self._held_at)

    def is_changing(self, now: float) -> bool:
        """Return whether the next step may find another state than this one."""
        return not self._served_checked or self._has_undecided or self.rollout.is_changing(now)

    @property
    def is_blocked(self) -> bool:
        """Whether a rollout, or the check of the served version, waits for something that may take long."""
        return self.rollout.is_blocked or (not self._served_checked and bool(self.problem))

    def is_deciding(self, now: float) -> bool:
        """Return whether a version was published a moment ago, and the predictors are being asked before it is rolled out."""
        return self._has_undecided and now < self._undecided_since + _DECIDING_SECONDS

    def is_rolling_out(self) -> bool:
        """Return whether a rollout is in progress and not blocked. Raises StoreError."""
        return self.rollout.served.target is not None and not self.rollout.is_blocked

    def begin(self, outcomes: Iterable[VersionOutcome]) -> None:
        """Continue from these outcomes, which an earlier release may have stored elsewhere. Raises StoreError."""
        known = {outcome.version: outcome for outcome in outcomes}
        for record, published in self._published():
            if outcome := known.get(published.version):
                self._note(record, outcome)
        self._save()

    def add_older(self, outcomes: Iterable[VersionOutcome]) -> None:
        """Note outcomes that were read later than the others. Raises StoreError."""
        for outcome in outcomes:
            if self._outcomes.setdefault(outcome.version, outcome) is outcome:
                self._held_at += [outcome.at] * (outcome.fate is not PromotionResult.PROMOTED)
        self._save()

    def check_served(self, now: float) -> None:
        """After a start, check the served version until it is loaded or the previous one is served instead."""
        if self._served_checked:
            return
        found = self.promotions.check_served(now)
        if isinstance(found, str):
            self.mark_served(found)
        elif self.rollout.target is None:
            self.problem = messages.blocked(self.rollout.served.current, found)

    def mark_served(self, problem: str = "") -> None:
        """Note that the served version is loaded, or that nothing more can be done about its problem."""
        self.problem, self._served_checked = problem, True

    def decide(self, control: str | None, now: float) -> None:
        """Decide on published versions. `control`: the one in use now. Raises StoreError."""
        waiting = self._undecided()
        if not self._has_undecided:
            self._undecided_since = now
        self._has_undecided = bool(waiting)
        if not waiting:
            return
        found = (
            self.promotions.candidate(published, record.request.parameters.control)
            for record, published in waiting.values()
        )
        candidates = [one for one in found if one]
        outcomes = self.promotions.decide(candidates, control, now)
        self._has_undecided = len(outcomes) < len(candidates)
        for version, outcome in outcomes.items():
            self._note(waiting[version][0], outcome)
            if manifest := self.promotions.manifests.find(version):  # a deleted version is not counted
                leader_metrics.count_decision(self.promotions.project_id, manifest.gate)
            if outcome.fate is PromotionResult.PROMOTED:
                self.mark_served()
        self._save()

    def _undecided(self) -> dict[str, tuple[RunRecord, Published]]:
        """Return the versions without an outcome, oldest first."""
        return {
            published.version: (record, published)
            for record, published in self._published()
            if published.version not in self._outcomes
        }

    def _published(self) -> Iterator[tuple[RunRecord, Published]]:
        for record in with_names_run(self.history.records, self.history.state_file.state):
            for published in record.status.published if record.status else ():
                yield record, published

    def _save(self) -> None:
        """Write the remembered runs and their outcomes into state.json, if they have changed. Raises StoreError."""
        names = [published.version for _, published in self._published()]
        self.history.save(outcomes=tuple(self._outcomes[name] for name in names if name in self._outcomes))

    def _note(self, record: RunRecord, outcome: VersionOutcome) -> None:
        self._outcomes[outcome.version] = outcome
        if outcome.fate is not PromotionResult.PROMOTED:
            self._held_at.append(outcome.at)
        self.outcome = outcome
        self.refusal = outcome.sentence if outcome.fate is PromotionResult.REFUSED else ""
        if outcome.fate is PromotionResult.STALE:
            self.history.mark_stale(record.run)

    @property
    def cold_start(self) -> ColdStart:
        """Return what the wish for a version from label names depends on. Raises StoreError."""
        names = self.history.state_file.state.embed.names
        serves_names = self.promotions.served_origin is Origin.NAMES
        return ColdStart(self.is_cold_start_on, self.rollout.served, serves_names, names)

    def foreign(self, space: LabelSpace | None) -> tuple[str, ...]:
        """Return the versions in effect that were made for another control than that of `space`: nothing is predicted with them.

        A version's manifest names its control. One of release 0.1.0 names none: it is foreign if it shares no label with `space`.
        """
        served = self.rollout.served
        versions = tuple(filter(None, (served.current, served.previous)))
        self.promotions.manifests.keep({*versions, *filter(None, [served.target]), *self._undecided()})
        return tuple(version for version in versions if space and self._is_foreign(version, space))

    @property
    def own_models(self) -> tuple[str, ...]:
        """The versions in effect, or soon in effect, whose answers a class of the operator's computes."""
        served, find = self.rollout.served, self.promotions.manifests.find
        versions = filter(None, (served.current, served.previous, served.target))
        return tuple(one for one in versions if (found := find(one)) and found.own_model)

    @property
    def unevaluated(self) -> tuple[str, ...]:
        """The versions in effect, or soon in effect, that were not evaluated, as far as can be known."""
        served, find = self.rollout.served, self.promotions.manifests.find
        versions = filter(None, (served.current, served.previous, served.target))
        return tuple(one for one in versions if not (found := find(one)) or not found.is_evaluated)

    def _is_foreign(self, version: str, space: LabelSpace) -> bool:
        manifest = self.promotions.manifests.find(version)
        if manifest is None or manifest.own_model:
            return False  # what cannot be read predicts nothing; a class of the operator's answers any label config
        control, labels = manifest.from_name, manifest.labels
        return control != space.from_name if control else not set(labels) & set(space.labels)


def no_suggestions_reason(served: Served, space: LabelSpace | None, foreign: tuple[str, ...]) -> str:
    """Return why the served version gives no suggestions; "" if it does."""
    if space is None or served.current not in foreign:
        return ""
    return (
        f"{served.current} was made for another control than {space.from_name!r}, which the project now trains: there are "
        "no suggestions until a version for it is promoted."
    )
