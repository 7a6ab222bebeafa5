"""The one sentence in which a project's state stands on the board: what is served, what goes on, what comes next. Pure."""

from __future__ import annotations

from services.adapter.history import Record
from services.core.domain import Estimate, Manifest, Project, RunState
from services.core.runs import version_name


def serving(version: str | None, manifest: Manifest | None, why: str, *, pinned: bool) -> str:
    """What annotators see."""
    if version is None:
        return ""
    how_good = f": {_right(manifest.estimate)}" if manifest and manifest.estimate.judged else ""
    return f"serving {version}{f' (pinned: {why})' if pinned else ''}{how_good}"


def training(project: Project, record: Record) -> str:
    """The run that goes on."""
    name = version_name(project, record.request.parameters.model_name, record.run)
    status = record.status
    if status is None or not status.stage:
        return f"training {name}: starting"
    parts = [status.stage]
    if status.steps:
        parts.append(f"step {status.step} of {status.steps}")
    if status.seconds_left is not None:
        parts.append(f"{status.seconds_left:.0f} s left")
    return f"training {name}: {', '.join(parts)}"


def failure(record: Record) -> str:
    """Why the last run gave nothing; "" where it was carried through."""
    if record.outcome is not RunState.FAILED:
        return ""
    said = record.status.message if record.status and record.status.state is RunState.FAILED else ""
    code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
    return f"Run {record.run} failed: {said}" if said else f"Run {record.run} ended{code}: its log tells why."


def joined(*parts: str) -> str:
    """The parts that say something, in one line."""
    return "; ".join(part for part in parts if part)


def _right(estimate: Estimate) -> str:
    return (
        f"right {estimate.right} of {estimate.judged} ({100 * estimate.low:.0f}–{100 * estimate.high:.0f} %)"
    )
