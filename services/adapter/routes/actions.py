"""Confirmation pages for train, promote, roll back and the like, and the forms that submit these commands.

Only with a password, and only from a form of this site: browsers send a stored password with every request, whichever page
caused it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.adapter.pages import page_response, render
from services.adapter.routes.api import Api, action_of
from services.adapter.routes.bodies import Forbidden, read_body, run_store_read
from services.adapter.routes.same_origin import FormTokens, is_same_origin
from services.adapter.state.board import ProjectView, effective_served
from services.core.accuracy import headline_sentence
from services.core.domain import Action, Manifest, Served


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a confirmation page says."""

    heading: str
    lines: tuple[str, ...]
    button: str


def build_confirmation(
    view: ProjectView, served: Served, action: Action, manifest: Manifest | None
) -> Confirmation:
    """Describe the effect of an action; `served` is in effect now, `manifest` the version to promote or roll back to."""
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
        "Unpin?", ("The current version stays until a newer one passes the gate.",), "Unpin"
    ),
    Action.PAUSE: Confirmation(
        "Pause training?",
        (
            "No run starts until you resume training. An active run is completed, and the current version stays.",
        ),
        "Pause training",
    ),
    Action.RESUME: Confirmation(
        "Resume training?", ("Runs start again as labels change.",), "Resume training"
    ),
}


def _confirm_cancel(view: ProjectView) -> Confirmation:
    run = f"Run {view.active.run} is cancelled and cannot be resumed." if view.active else "No run is active."
    return Confirmation("Cancel the run?", (run, "The current version stays."), "Cancel run")


def _confirm_train(view: ProjectView) -> Confirmation:
    lines = (
        f"A run starts with all current labels; {view.changed} of {view.needed} have changed since the last run.",
        "If nothing has changed since the last run, none starts.",
    )
    if view.active:
        lines = (f"Run {view.active.run} is active: the new run starts after it.", *lines[1:])
    return Confirmation("Train now?", lines, "Train now")


def _confirm_promotion(served: Served, manifest: Manifest | None) -> Confirmation:
    version = manifest.version if manifest else "the version"
    lines = [_serving_message(version, served)]
    if manifest:
        lines.append(headline_sentence(manifest))
        if not manifest.gate.promote:
            lines.extend(manifest.gate.reasons)
    return Confirmation(f"Promote {version}?", (*lines, _pinning_message(version)), f"Promote {version}")


def _confirm_rollback(served: Served, manifest: Manifest | None) -> Confirmation:
    version = manifest.version if manifest else served.previous
    if version is None:
        return Confirmation("Roll back?", ("There is no previous version to roll back to.",), "Roll back")
    lines = (_serving_message(version, served), _pinning_message(version))
    return Confirmation(f"Roll back to {version}?", lines, f"Roll back to {version}")


def _serving_message(version: str, served: Served) -> str:
    if version == served.current:
        return f"{version} is already the current version, and stays."
    instead = f" instead of {served.current}" if served.current else ""
    return f"Annotators get the suggestions of {version}{instead}."


def _pinning_message(version: str) -> str:
    return f"{version} is then pinned: newer versions are held until you unpin it."


ACTIONS_DISABLED: Final = (
    "Actions are disabled because no password is set, so that any web page could send them: "
    "set BASIC_AUTH_USER and BASIC_AUTH_PASS, or use the command line (`fitloop --help`)."
)

_FOREIGN_FORM: Final = (
    "This form was not sent by Fitloop's own page, so nothing was done: go back to the project and try again."
)

_EXPIRED_FORM: Final = "This form has expired, so nothing was done: go back to the project and try again."

_MAX_FORM_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class ActionPages:
    """Routes of confirmation pages and their forms."""

    api: Api
    tokens: FormTokens

    async def confirm(self, request: Request) -> Response:
        """Answer with the page that describes the effect, and its form."""
        view, action = self._subject(request)
        version = await self.api.version_of(view, action, request.query_params.get("version"))
        confirmation = await run_store_read(self._confirmation, view, action, version)
        token = self.tokens.issue(_purpose(view, action, version), time.time())
        page = render(
            "confirm.html", request, view=view, confirmation=confirmation, version=version, token=token
        )
        return page_response(page)

    async def submit(self, request: Request) -> Response:
        """Store the form's command, then redirect. Raises Forbidden, BadRequest, NoSuchResource, StoreError."""
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
