"""What a person is asked before something is done: what will happen, in sentences. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.adapter.pages.words import enough, percent
from services.adapter.state.board import ProjectView
from services.core.domain import Action, Estimate, Manifest, Served


@dataclass(frozen=True, slots=True)
class Question:
    """A heading, what will happen, and what the button says."""

    heading: str
    sentences: tuple[str, ...]
    button: str


def question(view: ProjectView, served: Served, action: Action, manifest: Manifest | None) -> Question:
    """`served` as it is told now; `manifest` is the version that a promotion, or a rollback, names."""
    match action:
        case Action.TRAIN:
            return _train(view)
        case Action.PROMOTE:
            return _promote(served, manifest)
        case Action.ROLLBACK:
            return _roll_back(served, manifest)
        case Action.CANCEL:
            return _cancel(view)
        case _:
            return _SIMPLE[action]


_SIMPLE: Final = {
    Action.UNPIN: Question(
        "Unpin?", ("What is served stays until a newer version is found better, or no worse.",), "Unpin"
    ),
    Action.PAUSE: Question(
        "Pause training?",
        ("No run begins until you resume. What is served stays, and a run that goes on is finished.",),
        "Pause training",
    ),
    Action.RESUME: Question("Resume training?", ("Runs begin again as labels come.",), "Resume training"),
}


def _cancel(view: ProjectView) -> Question:
    run = f"Run {view.active.run} ends for good." if view.active else "No run is going on now."
    return Question("Cancel the run?", (run, "What is served stays as it is."), "Cancel the run")


def _train(view: ProjectView) -> Question:
    said = (
        f"A run begins with all labels that there are now; {view.changed} of {view.needed} have changed since the last one.",
        "Where nothing has changed at all since the last run, none begins.",
    )
    if view.active:
        said = (f"Run {view.active.run} is going on: the new one begins after it.", *said[1:])
    return Question("Train now?", said, "Train now")


def _promote(served: Served, manifest: Manifest | None) -> Question:
    version = manifest.version if manifest else "the version"
    said = [_instead(version, served)]
    if manifest:
        said.append(_how_good(manifest.estimate))
        if not manifest.gate.promote:
            said.append(f"The gate's word on it: {' '.join(manifest.gate.reasons)}")
    return Question(f"Promote {version}?", (*said, _pins(version)), f"Promote {version}")


def _roll_back(served: Served, manifest: Manifest | None) -> Question:
    version = manifest.version if manifest else served.previous
    if version is None:
        return Question("Roll back?", ("There is no earlier version to go back to.",), "Roll back")
    said = (_instead(version, served), _pins(version))
    return Question(f"Roll back to {version}?", said, f"Roll back to {version}")


def _instead(version: str, served: Served) -> str:
    if version == served.current:
        return f"{version} serves already, and goes on."
    instead = f" instead of {served.current}" if served.current else ""
    return f"Annotators get the suggestions of {version}{instead}."


def _how_good(estimate: Estimate) -> str:
    if not enough(estimate):
        return "Too few labels to say how often it is right."
    return f"It is right on {percent(estimate)} of texts that it had not learnt: an estimate, usually low."


def _pins(version: str) -> str:
    return f"{version} is then pinned: newer versions are made and held, until you unpin it."
