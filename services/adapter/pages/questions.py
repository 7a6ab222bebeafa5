"""What a person is asked before something is done: what will happen, in sentences. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.adapter.pages.formatting import accuracy, has_enough_texts
from services.adapter.state.board import ProjectView
from services.core.domain import Action, Estimate, Manifest, Served


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A heading, what will happen, and what the button says."""

    heading: str
    sentences: tuple[str, ...]
    button: str


def build_confirmation(
    view: ProjectView, served: Served, action: Action, manifest: Manifest | None
) -> Confirmation:
    """`served` as it is told now; `manifest` is the version that a promotion, or a rollback, names."""
    match action:
        case Action.TRAIN:
            return _confirm_train(view)
        case Action.PROMOTE:
            return _confirm_promotion(served, manifest)
        case Action.ROLLBACK:
            return _confirm_rollback(served, manifest)
        case Action.CANCEL:
            return _confirm_cancel(view)
        case _:
            return _FIXED[action]


_FIXED: Final = {
    Action.UNPIN: Confirmation(
        "Unpin?", ("What is served stays until a newer version is found better, or no worse.",), "Unpin"
    ),
    Action.PAUSE: Confirmation(
        "Pause training?",
        ("No run begins until you resume. What is served stays, and a run that goes on is finished.",),
        "Pause training",
    ),
    Action.RESUME: Confirmation("Resume training?", ("Runs begin again as labels come.",), "Resume training"),
}


def _confirm_cancel(view: ProjectView) -> Confirmation:
    run = f"Run {view.active.run} ends for good." if view.active else "No run is going on now."
    return Confirmation("Cancel the run?", (run, "What is served stays as it is."), "Cancel the run")


def _confirm_train(view: ProjectView) -> Confirmation:
    said = (
        f"A run begins with all labels that there are now; {view.changed} of {view.needed} have changed since the last one.",
        "Where nothing has changed at all since the last run, none begins.",
    )
    if view.active:
        said = (f"Run {view.active.run} is going on: the new one begins after it.", *said[1:])
    return Confirmation("Train now?", said, "Train now")


def _confirm_promotion(served: Served, manifest: Manifest | None) -> Confirmation:
    version = manifest.version if manifest else "the version"
    said = [_serving_sentence(version, served)]
    if manifest:
        said.append(_accuracy_sentence(manifest.estimate))
        if not manifest.gate.promote:
            said.append(f"The gate's word on it: {' '.join(manifest.gate.reasons)}")
    return Confirmation(f"Promote {version}?", (*said, _pinning_sentence(version)), f"Promote {version}")


def _confirm_rollback(served: Served, manifest: Manifest | None) -> Confirmation:
    version = manifest.version if manifest else served.previous
    if version is None:
        return Confirmation("Roll back?", ("There is no earlier version to go back to.",), "Roll back")
    said = (_serving_sentence(version, served), _pinning_sentence(version))
    return Confirmation(f"Roll back to {version}?", said, f"Roll back to {version}")


def _serving_sentence(version: str, served: Served) -> str:
    if version == served.current:
        return f"{version} serves already, and goes on."
    instead = f" instead of {served.current}" if served.current else ""
    return f"Annotators get the suggestions of {version}{instead}."


def _accuracy_sentence(estimate: Estimate) -> str:
    if not has_enough_texts(estimate):
        return "Too few labels to say how often it is right."
    return f"It is right on {accuracy(estimate)} of texts that it had not learnt: an estimate, usually low."


def _pinning_sentence(version: str) -> str:
    return f"{version} is then pinned: newer versions are made and held, until you unpin it."
