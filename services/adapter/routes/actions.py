"""What a person is asked before something is done: what will happen, in sentences. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.adapter.pages import page_response, render
from services.adapter.pages.formatting import accuracy, has_enough_texts
from services.adapter.routes.api import Api, action_of
from services.adapter.routes.bodies import Forbidden, read_body, run_store_read
from services.adapter.routes.same_origin import FormTokens, is_same_origin
from services.adapter.state.board import ProjectView, effective_served
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


ACTIONS_DISABLED: Final = (
    "Nothing can be asked for on this page, because no password is set, and so any other page could ask for it as well: "
    "set BASIC_AUTH_USER and BASIC_AUTH_PASS, or use the command line, `fitloop --help`."
)

_FOREIGN_FORM: Final = (
    "This was not sent by Fitloop's own page, so nothing was done: go back to the project and ask again."
)

_EXPIRED_FORM: Final = (
    "This page was open for too long, so nothing was done: go back to the project and ask again."
)

_MAX_FORM_BYTES: Final = 4096
"""Bytes of a form."""


@dataclass(frozen=True, slots=True)
class ActionPages:
    """The routes."""

    api: Api
    tokens: FormTokens

    async def confirm(self, request: Request) -> Response:
        """The page that says what will happen, with the form that asks for it."""
        view, action = self._subject(request)
        version = await self.api.version_of(view, action, request.query_params.get("version"))
        asked = await run_store_read(self._confirmation, view, action, version)
        token = self.tokens.issue(_purpose(view, action, version), time.time())
        page = render("confirm.html", request, view=view, asked=asked, version=version, token=token)
        return page_response(page)

    async def submit(self, request: Request) -> Response:
        """The form: stored before it is answered. Raises Forbidden, BadRequest, Unknown, StoreError."""
        view, action = self._subject(request)
        if not is_same_origin(request.headers):
            raise Forbidden(_FOREIGN_FORM)
        form = await _form(request)
        version = form.get("version")
        if not self.tokens.is_valid(form.get("token", ""), _purpose(view, action, version), time.time()):
            raise Forbidden(_EXPIRED_FORM)
        await self.api.store(request, view, action, version)
        return RedirectResponse(f"../{view.project.id}?asked={action.value}", 303)

    def _subject(self, request: Request) -> tuple[ProjectView, Action]:
        action, view = action_of(request.path_params["action"]), self.api.view_of(request)
        if not self.tokens:
            raise Forbidden(ACTIONS_DISABLED)
        return view, action

    def _confirmation(self, view: ProjectView, action: Action, version: str | None) -> Confirmation:
        manifest = self.api.versions.manifest(view.project.key, version) if version else None
        return build_confirmation(view, effective_served(view.served, time.time()), action, manifest)


def _purpose(view: ProjectView, action: Action, version: str | None) -> str:
    return f"{view.project.key} {action.value} {version or ''}"


async def _form(request: Request) -> dict[str, str]:
    body = await read_body(request, _MAX_FORM_BYTES)
    try:
        found = parse_qs(body.decode(), strict_parsing=bool(body), max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}
