"""The one sentence in which a project's state stands on the board: what is served, what goes on, what comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.adapter.ports import RolloutStatus
from services.adapter.training.runs import RunRecord
from services.core.domain import Estimate, Manifest, Pending, Project, RunState, Served
from services.core.labelstudio.access import URL_ADVICE, backend_url_problem
from services.core.runs import version_name

_NOTICED_LATER: Final = "Labels are noticed all the same, but not at once."

_PENDING_ADVICE: Final[dict[str, str]] = {
    Pending.NO_GPU: "The run waits for a GPU: free one, or let runs ask for fewer (trainer.gpus in the chart's values).",
    Pending.NO_NODE: (
        "No node takes the run: give the cluster one with room, or let runs ask for less (trainer.resources, "
        "trainer.nodeSelector and trainer.tolerations in the chart's values)."
    ),
    Pending.SUSPENDED: (
        "The run waits for its queue: whoever runs the queue sees its place. Without a queue, trainer.suspend in the chart's "
        "values keeps every run."
    ),
    Pending.QUOTA: (
        "The cluster takes no pod of the run: its namespace's quota is used up, or forbids what runs ask for "
        "(trainer.resources in the chart's values)."
    ),
    Pending.IMAGE: "The trainer's image cannot be pulled: see image and imagePullSecrets in the chart's values.",
}
"""By what a run waits for; other runs' turns and what passes need no advice."""


def serving(version: str | None, manifest: Manifest | None, why: str, *, pinned: bool) -> str:
    """What annotators see."""
    if version is None:
        return ""
    how_good = f": {_accuracy(manifest.estimate)}" if manifest and manifest.estimate.judged else ""
    return f"serving {version}{f' (pinned: {why})' if pinned else ''}{how_good}"


def training(project: Project, record: RunRecord) -> str:
    """The run that goes on."""
    name = version_name(project, record.request.parameters.model_name, record.run)
    if record.request.asked_by:
        name = f"{name} (asked for by {_few(record.request.asked_by)})"
    status = record.status
    if record.waiting_reason:
        return f"training {name}: waiting, because {record.waiting_reason}"
    if status is None or not status.stage:
        return f"training {name}: starting"
    parts = [status.stage]
    if status.steps:
        parts.append(f"step {status.step} of {status.steps}")
    if status.seconds_left is not None:
        parts.append(f"{status.seconds_left:.0f} s left")
    return f"training {name}: {', '.join(parts)}"


def pinned(project: Project, served: Served) -> str:
    """Why a better version is not served."""
    return f"held because pinned: {served.current} stays until `fitloop unpin {project.id}`"


def stale(version: str, compared_with: str | None, current: str | None) -> str:
    """Why a version that was found better is not served."""
    return (
        f"held: {version} was compared with {compared_with or 'no version'}, and {current or 'none'} serves now; "
        "it is judged afresh"
    )


def superseded(version: str, current: str | None) -> str:
    """Why a version that was found better than another is not served."""
    return f"held: {current} is newer than {version} and serves already"


def rolling_out(target: str | None, standing: RolloutStatus | None) -> str:
    """The version that is being brought to those who answer; "" where none is."""
    if target is None or standing is None:
        return ""
    said = f": {standing.reason}" if standing.reason else ""
    return f"version {target} is being brought to the predictors{said}"


def blocked(version: str | None, standing: RolloutStatus | None) -> str:
    """What keeps a version from where it is wanted, though it is not the version's fault; "" where nothing does."""
    if version is None or standing is None or not standing.blocked:
        return ""
    why = standing.reason.rstrip(".") or "no reason is known"
    again = "" if "tried again" in why else " It is tried again."
    return f"Version {version} cannot be brought to the predictors: {why}.{again}"


def failure(record: RunRecord) -> str:
    """Why the last run gave nothing; "" where it was carried through."""
    if record.outcome is not RunState.FAILED:
        return ""
    said = record.status.message if record.status and record.status.state is RunState.FAILED else ""
    code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
    if not said and record.launch and record.launch.reason:
        return f"Run {record.run} failed{code}: {record.launch.reason}."
    return f"Run {record.run} failed: {said}" if said else f"Run {record.run} ended{code}: its log tells why."


def pending_advice(pending: str) -> tuple[str, ...]:
    """What to do about that for which a run waits."""
    return (_PENDING_ADVICE[pending],) if pending in _PENDING_ADVICE else ()


def advice(seen_url: str, *, silent: bool) -> tuple[str, ...]:
    """What would be better, by the address by which Label Studio reached us; `silent`: labels came and no event told of them."""
    problem = backend_url_problem(seen_url) if seen_url else ""
    if problem:
        said = f"The address by which Label Studio calls Fitloop brings no events: {problem}. {_NOTICED_LATER} {URL_ADVICE}"
        return (said,)
    if silent:
        lost = "Labels came that no event had announced: Label Studio's webhook is missing, or what it sends does not arrive."
        return (f"{lost} {_NOTICED_LATER} `fitloop doctor` finds out why.",)
    return ()


def join(*parts: str) -> str:
    """The parts that say something, in one line."""
    said = [part.rstrip(".") for part in parts if part]
    return "; ".join([*said[:1], *(_within(part) for part in said[1:])])


def _within(part: str) -> str:
    """The gate's sentences begin one of their own; names of versions keep their capitals."""
    return f"held{part[4:]}" if part.startswith("Held:") else part


def _accuracy(estimate: Estimate) -> str:
    return (
        f"right {estimate.right} of {estimate.judged} ({100 * estimate.low:.0f}–{100 * estimate.high:.0f} %)"
    )


def _few(names: Sequence[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
