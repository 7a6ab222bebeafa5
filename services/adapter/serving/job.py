"""What of Label Studio is to be refreshed for a version, and how far that has come."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.domain import LabelSpace


@dataclass(frozen=True, slots=True)
class RefreshJob:
    """What is to be refreshed."""

    project_id: int
    project_key: str
    version: str
    space: LabelSpace
    seen_url: str
    round: int = 0
    """One more each time that the same version is to be refreshed again: new tasks, another backend."""
    title_only: bool = False
    """The predictions are there: only the backend may be another one."""


@dataclass(frozen=True, slots=True)
class RefreshProgress:
    """How far a job has come."""

    job: RefreshJob
    pushed: int = 0
    total: int | None = None
    """Tasks without a prediction of the version; None until they are counted."""
    refused: int = 0
    """Predictions that Label Studio does not take."""
    done: bool = False
    problem: str = ""


def progress_sentence(progress: RefreshProgress | None) -> str:
    """How far, for people; "" where there is nothing to say."""
    if progress is None or progress.done or progress.total is None:
        return ""
    return f"refreshing suggestions in Label Studio: {progress.pushed} of {progress.total}"


def refused_sentence(job: RefreshJob, count: int) -> str:
    """What to tell people of predictions that Label Studio does not take; "" for none."""
    if not count:
        return ""
    these = "1 suggestion" if count == 1 else f"{count} suggestions"
    return (
        f"Label Studio refuses {these} of {job.version} for {job.space.from_name!r}: annotators get them only where "
        "Label Studio asks for predictions itself. Its log says why."
    )
