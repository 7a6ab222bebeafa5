"""When to compute features of unlabelled texts: what a project has and lacks, and the time in; a Decision out. Pure.

A run of kind `embed` makes a later training run, and its predictions, fast, and gives a project without labels a version from their
names. It gives way to every training run, and is started after a project was connected, after tasks were added, when texts were left
over, and when such a version is wanted; never again for what it could not do.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from services.adapter.training.trigger import PERMANENT_FAILURES
from services.core.domain import LabelSpace, Method, Parameters, PoolState, RunState
from services.core.pool import FEATURE_METHODS, text_source

_FIRST_RETRY, _LAST_RETRY = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run, and why."""

    cause: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the active run; what it has stored stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Change nothing, and why; "" if there is nothing to do."""

    reason: str = ""


Decision = Start | Cancel | Rest


@dataclass(frozen=True, slots=True)
class KnownPool:
    """The pool as the last run that read it has left it."""

    state: PoolState
    fingerprint: str
    """`fingerprint` of that run."""
    is_of_embed: bool
    """Whether that was a run of kind `embed`, which computes all that it can."""


@dataclass(frozen=True, slots=True)
class EndedEmbed:
    """The last run of kind `embed`, which has ended."""

    outcome: RunState
    exit_code: int | None
    ended_at: float
    fingerprint: str
    tasks: int
    """Label Studio's count of all tasks when it was requested."""
    failures: int
    """Such runs that failed since the last one that did not."""


@dataclass(frozen=True, slots=True)
class EmbedSituation:
    """What the decision depends on, beside the time."""

    seconds: float
    """FITLOOP_EMBED_SECONDS; 0: no such runs."""
    fingerprint: str
    """Of the project as it is now."""
    tasks: int
    """All tasks, as Label Studio counts them."""
    unlabelled: int
    method: Method
    names: str = ""
    """Why a version is to be made from label names; "" if none is."""
    known: KnownPool | None = None
    last: EndedEmbed | None = None
    active: str | None = None
    """The active run of kind `embed`."""
    is_training: bool = False
    """Whether a training run of the project is active, or wants to start."""
    is_quiet: bool = True
    """Whether there is no burst of events."""
    paused: bool = False
    disconnected: bool = False
    has_turn: bool = True
    """Whether no training run, of any project, needs what an `embed` run would take."""


def fingerprint(space: LabelSpace, parameters: Parameters) -> str:
    """Return 16 hex digits of what decides which features the texts of a project have."""
    parts = [text_source(space), parameters.base_model, parameters.max_length]
    return hashlib.sha256(json.dumps(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def decide(situation: EmbedSituation, now: float) -> Decision:
    """Decide whether a run of kind `embed` starts or ends now."""
    if situation.active:
        return _reason_to_end(situation)
    cause = _cause(situation)
    if not cause:
        return Rest()
    if situation.paused or situation.disconnected:
        return Rest(f"{cause}, but no run starts at the moment")
    if situation.is_training or not situation.has_turn or not situation.is_quiet:
        return Rest(f"{cause}; training comes first")
    if situation.last and (wait := _wait_after(situation, situation.last, now)):
        return wait
    return Start(cause)


def retry_at(last: EndedEmbed) -> float:
    """Return when a failed run may be repeated: a minute after it ended, doubling with each failure in a row to an hour."""
    return last.ended_at + min(_FIRST_RETRY * 2.0 ** min(last.failures - 1, 10), _LAST_RETRY)


def _reason_to_end(situation: EmbedSituation) -> Decision:
    if situation.is_training:
        return Cancel("a training run of the project comes first")
    if not situation.has_turn:
        return Cancel("training runs of other projects come first")
    if situation.paused:
        return Cancel("the project is paused")
    return Rest(f"run {situation.active} is active")


def _cause(situation: EmbedSituation) -> str:
    """Return why there is something to do; "" if there is nothing."""
    if not situation.seconds or not situation.unlabelled:
        return ""
    if situation.names or situation.method not in FEATURE_METHODS:
        return situation.names
    if situation.known is None:
        return "the unlabelled texts have no features"
    return _lacking(situation, situation.known)


def _lacking(situation: EmbedSituation, known: KnownPool) -> str:
    """Return which features texts lack that a run can compute; "" if there are none."""
    if known.fingerprint != situation.fingerprint:
        return "the base model or the text of the tasks has changed"
    if not known.state.counted:
        return "not all tasks were read"
    if situation.tasks > known.state.counted:
        return f"{situation.tasks - known.state.counted} tasks were added"
    is_stuck = known.is_of_embed and not known.state.computed
    return f"{known.state.left} texts have no features" if known.state.left and not is_stuck else ""


def _wait_after(situation: EmbedSituation, last: EndedEmbed, now: float) -> Rest | None:
    """Return why a failed run is not repeated yet; None if nothing speaks against it."""
    if last.outcome is not RunState.FAILED:
        return None
    same = (last.fingerprint, last.tasks) == (situation.fingerprint, situation.tasks)
    if last.exit_code in PERMANENT_FAILURES:
        return Rest("the last run failed: waiting until tasks or settings change") if same else None
    left = min(retry_at(last), now + _LAST_RETRY) - now
    return Rest(f"the last run failed: it is repeated in {left:.0f} s") if left > 0 else None
