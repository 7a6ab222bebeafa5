"""The messages of a project's status: what is served, what is in progress, what comes next, what could be better. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.adapter.ports import RolloutStatus
from services.adapter.state.project_state import RunRecord
from services.core.accuracy import named_headline
from services.core.domain import Manifest, Pending, Project, RunState
from services.core.labelstudio.access import URL_ADVICE, backend_url_problem
from services.core.runs import version_name

_NOTICED_LATER: Final = "Labels are still noticed, but not at once."
_PENDING_ADVICE: Final[dict[str, str]] = {
    Pending.NO_GPU: "The run waits for a GPU: free one, or let runs request fewer (trainer.gpus in the chart's values).",
    Pending.NO_NODE: (
        "No node has room for the run: add one, or let runs request less (trainer.resources, "
        "trainer.nodeSelector and trainer.tolerations in the chart's values)."
    ),
    Pending.SUSPENDED: (
        "The run waits in its queue: the queue's administrator sees its place. Without a queue, trainer.suspend in the chart's "
        "values suspends every run."
    ),
    Pending.QUOTA: (
        "The cluster admits no pod of the run: its namespace's quota is used up, or forbids what runs request "
        "(trainer.resources in the chart's values)."
    ),
    Pending.IMAGE: "The trainer's image cannot be pulled: see image and imagePullSecrets in the chart's values.",
}
"""By what a run waits for; the run queue and transient causes need no advice."""


def serving(version: str | None, manifest: Manifest | None, why: str, *, pinned: bool) -> str:
    """Return which version is served, and how accurate it is."""
    if version is None:
        return ""
    how_good = f": {named_headline(manifest)}" if manifest else ""
    return f"serving {version}{f' (pinned: {why})' if pinned else ''}{how_good}"


def training(project: Project, record: RunRecord) -> str:
    """Return how far the active run is."""
    name = version_name(project, record.request.parameters.model_name, record.run)
    if record.request.asked_by:
        name = f"{name} (requested by {_few(record.request.asked_by)})"
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


def embedding(record: RunRecord) -> str:
    """Return how far the active run of kind `embed` is."""
    status = record.status
    is_wanted = record.request.label_names and not (status and status.names)
    wish = "making suggestions from label names, and " if is_wanted else ""
    name = f"{wish}computing features of unlabelled texts (run {record.run})"
    if record.waiting_reason:
        return f"{name}: waiting, because {record.waiting_reason}"
    if status is None or not status.steps:
        return f"{name}: {status.stage if status and status.stage else 'starting'}"
    return f"{name}: {status.step} of {status.steps}"


def pinned(project_id: int, current: str | None) -> str:
    """Return why a better version is not served."""
    return f"held because pinned: {current} stays until `fitloop unpin {project_id}`"


def other_control(version: str, answered: str | None, control: str) -> str:
    """Return why a version for another control than the one in use is not served."""
    return f"Held: {version} answers {answered!r}, and the project now trains {control!r}."


def refused(version: str, problem: str, current: str | None) -> str:
    """Return why a version that a predictor refused is not served."""
    stays = f"{current} stays" if current else "nothing is served yet"
    return f"{version} was refused: {problem} {stays}."


def stale(version: str, compared_with: str | None, current: str | None) -> str:
    """Return why a version that the gate promoted is not served."""
    return (
        f"held: {version} was compared with {compared_with or 'no version'}, and {current or 'none'} is served now; "
        "it is evaluated again"
    )


def untrained(version: str, current: str | None) -> str:
    """Return why a version from label names only is not served."""
    return f"held: {version} was made from label names only, and {current} was trained on labels"


def superseded(version: str, current: str | None) -> str:
    """Return why a version that the gate promoted is not served."""
    return f"held: {current} is newer than {version} and is served already"


def rolling_out(target: str | None, status: RolloutStatus | None) -> str:
    """Return how far the rollout is; "" if there is none."""
    if target is None or status is None:
        return ""
    return f"rolling out {target}: {status.reason}" if status.reason else f"rolling out {target}"


def blocked(version: str | None, status: RolloutStatus | None) -> str:
    """Return why the rollout of a version is blocked; "" if it is not."""
    if version is None or status is None or not status.blocked:
        return ""
    reason = status.reason.rstrip(".") or "no reason is known"
    retried = any(word in reason for word in ("tried again", "retried"))
    return f"The rollout of {version} is blocked: {reason}.{'' if retried else ' It is retried.'}"


def failure(record: RunRecord) -> str:
    """Return why the last run failed; "" if it did not."""
    if record.outcome is not RunState.FAILED:
        return ""
    message = record.status.message if record.status and record.status.state is RunState.FAILED else ""
    code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
    if message:
        return f"Run {record.run} failed: {message}"
    if record.launch and record.launch.reason:
        return f"Run {record.run} failed{code}: {record.launch.reason}."
    return f"Run {record.run} ended{code}: see its log."


def pending_advice(pending: str) -> tuple[str, ...]:
    """Return what to do about that for which a run waits."""
    return (_PENDING_ADVICE[pending],) if pending in _PENDING_ADVICE else ()


def advice(seen_url: str, *, silent: bool) -> tuple[str, ...]:
    """Return advice about webhooks, by the URL by which Label Studio reached us; `silent`: labels came without an event."""
    problem = backend_url_problem(seen_url) if seen_url else ""
    if problem:
        return (
            f"Label Studio sends no events to this backend URL: {problem}. {_NOTICED_LATER} {URL_ADVICE}",
        )
    if silent:
        lost = "Labels changed without an event: Label Studio's webhook is missing, or its requests do not arrive."
        return (f"{lost} {_NOTICED_LATER} `fitloop doctor` finds out why.",)
    return ()


def disconnected(seen_url: str) -> str:
    """Return that Label Studio calls us for the project no more, and what to do."""
    return (
        f"None of the project's ML backends in Label Studio has had Fitloop's address ({seen_url}) for a day, so labels start no "
        "runs: connect it again (Settings > Model), or ignore this if the project is finished."
    )


def join(*parts: str) -> str:
    """Join the parts that are not empty into one line."""
    first, *others = [part.rstrip(".") for part in parts if part] or [""]
    # The gate's reasons start with a capital; names of versions keep theirs.
    return "; ".join([first, *(f"held{part[4:]}" if part.startswith("Held:") else part for part in others)])


def _few(names: Sequence[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
