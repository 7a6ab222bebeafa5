"""Whether a published version is served: the gate's decision, applied to what the project serves now. Pure.

A version is promoted only while the version that the gate compared it with is still the served one. It says nothing about any
other, so such a version is held as stale and its labels are evaluated again. The exception replaces a served version that no
predictor can load: nothing can be compared with that one, so a version that was compared with nothing may take its place.
A version from label names was compared with nothing: it is served only where nothing is, or another such version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.adapter.serving import messages
from services.adapter.serving.manifest_cache import Origin
from services.adapter.state.documents import PromotionResult
from services.core.domain import Published, Served


class ServedState(StrEnum):
    """Whether the served version can answer requests."""

    OK = "ok"
    CHECKING = "checking"
    """Not known yet: it is being loaded."""
    BROKEN = "broken"
    """A predictor refused it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a version's manifest says about it."""

    compared_with: str | None
    """The version that the gate compared it with."""
    created_at: float
    is_trained: bool = True
    """Whether it was trained on labels; False of one from label names only."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A published version without an outcome."""

    published: Published
    evaluation: Evaluation | None
    """None if its manifest cannot be used."""
    control: str | None = None
    """The control that its run was requested for; None: the only one, or a run of an earlier release."""
    problem: str = ""
    """Why its manifest cannot be used: it was deleted, or is broken."""

    @property
    def version(self) -> str:
        return self.published.version


@dataclass(frozen=True, slots=True)
class Situation:
    """What the project serves at the moment of the decision."""

    project_id: int
    served: Served
    served_state: ServedState = ServedState.OK
    target: str | None = None
    """The version being rolled out."""
    served_created_at: float | None = None
    """None if nothing is served, or its manifest cannot be read."""
    served_origin: Origin = Origin.LABELS
    """What the served version was made from."""
    control: str | None = None
    """The control in use; None if settings name none that the label config has."""
    falling_back: bool = False
    """The served version is broken, and the one before it is being rolled out."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Roll the version out; it is served once every predictor has loaded it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The result is known without any rollout: the version is not served, or is served already (PROMOTED)."""

    result: PromotionResult
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again in the next step."""

    reason: str


Decision = Promote | Hold | Wait


def next_to_decide(candidates: Sequence[Candidate]) -> Candidate:
    """Return which of these (oldest first, at least one) is decided first: the newest, which supersedes the others.

    But none before the version that it was compared with.
    """
    waiting = {one.version for one in candidates}
    free = [one for one in candidates if not (one.published.promote and _compared_with(one) in waiting)]
    return (free or candidates)[-1]


def decide(candidate: Candidate, now: Situation) -> Decision:
    """Decide on one published version. The same situation gives the same decision, also after the decision was applied."""
    served, published, evaluation = now.served, candidate.published, candidate.evaluation
    if published.version == served.current:
        return Hold(PromotionResult.PROMOTED, published.sentence)
    if (reason := _held_by(candidate, now)) is not None:
        return Hold(PromotionResult.HELD, reason)
    if now.falling_back:
        return Wait(f"{served.current} is broken and is being replaced by {served.previous}")
    if evaluation is None:
        return Hold(
            PromotionResult.REFUSED, messages.refused(published.version, candidate.problem, served.current)
        )
    if evaluation.is_trained and evaluation.compared_with == served.current:
        return Promote(published.sentence)
    return _decide_uncompared(candidate, evaluation, now)


def _held_by(candidate: Candidate, now: Situation) -> str | None:
    """Return why the gate, the control in use or a pin holds the version; None if none does."""
    if not candidate.published.promote:
        return candidate.published.sentence
    if now.control is not None and candidate.control not in {None, now.control}:
        return messages.other_control(candidate.version, candidate.control, now.control)
    if now.served.pinned:
        return messages.pinned(now.project_id, now.served.current)
    return None


def _decide_uncompared(candidate: Candidate, evaluation: Evaluation, now: Situation) -> Decision:
    """Decide on a version that the gate did not compare with the served one."""
    version, current = candidate.version, now.served.current
    if not evaluation.is_trained and current is not None:
        # One without a manifest cannot be loaded again, nor compared with: it is replaced.
        if now.served_origin is Origin.LABELS:
            return Hold(PromotionResult.HELD, messages.untrained(version, current))
        if now.served_origin is Origin.UNKNOWN:
            return Wait(f"the manifest of {current} cannot be read at the moment")
    if now.served_created_at is not None and now.served_created_at > evaluation.created_at:
        return Hold(PromotionResult.HELD, messages.superseded(version, current))
    if (
        now.served_origin is Origin.LOST
        or not evaluation.is_trained
        or _takes_place_of_broken(version, evaluation, now)
    ):
        return Promote(candidate.published.sentence)
    if evaluation.compared_with is None and now.served_state is ServedState.CHECKING:
        return Wait(f"{current} is being checked")
    return Hold(PromotionResult.STALE, messages.stale(version, evaluation.compared_with, current))


def _takes_place_of_broken(version: str, evaluation: Evaluation, now: Situation) -> bool:
    """Return whether the served version is broken, and this one was compared with nothing.

    A rollout that has begun continues while predictors do not answer: it began because the served version is broken.
    """
    if evaluation.compared_with is not None or now.served.current is None:
        return False
    is_begun = now.served_state is ServedState.CHECKING and now.target == version
    return now.served_state is ServedState.BROKEN or is_begun


def _compared_with(candidate: Candidate) -> str | None:
    return candidate.evaluation.compared_with if candidate.evaluation else None
