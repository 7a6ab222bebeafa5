"""Each project in Label Studio: that it is there, its question, our rights; with its backend, its webhook and its state."""

from __future__ import annotations

from functools import partial
from typing import Final

from services.cli.checks.context import Context
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.cli.checks.label_studio import backend, find_ours, list_backends, reason_to_skip
from services.cli.checks.webhook import event, webhook
from services.core.errors import LabelStudioError, Missing, NoLabelSpace
from services.core.labels import parse_label_space
from services.core.parameters import parse_parameters


def checks(context: Context) -> list[Check]:
    """Those of each project; one line where none is known, or where Label Studio cannot be asked from here."""
    if not context.projects:
        return [Check("projects", _none)]
    asked = reason_to_skip(context) is None
    looks = _LOOKS if asked else (("in label studio", _unasked), ("state", state))
    return [
        Check(f"project {number}: {name}", partial(look, number=number), 45.0, _needs(number, name))
        for number in context.projects
        for name, look in looks
    ]


def found(context: Context, number: int) -> Finding:
    """The project is there."""
    try:
        project, counts = context.label_studio.project(number)
    except Missing:
        return fail(
            f"Label Studio has no project {number} that the token's user may see.",
            "Correct --project, or let that user into the project's workspace.",
        )
    return ok(f"It is {project.title!r}, {counts.annotated_tasks} of {counts.tasks} tasks labelled.")


def question(context: Context, number: int) -> Finding:
    """It asks what a text classifier can answer."""
    project, _ = context.label_studio.project(number)
    try:
        space = parse_label_space(project.label_config, _control(context, number))
    except NoLabelSpace as error:
        return fail(str(error), "Change the labeling interface in the project's settings.")
    return ok(f"{space.note}, {len(space.labels)} labels.")


def _control(context: Context, number: int) -> str | None:
    """The control that the backend's extra parameters name, or else settings; as far as they are the same here."""
    ours = find_ours(context, list_backends(context, number))
    told, _ = parse_parameters(ours.extra_params if ours else None)
    return told.get("control") or context.settings.trigger.control_of(number)


def rights(context: Context, number: int) -> Finding:
    """Tasks may be read, and predictions stored: none are, since none are sent."""
    advice = "Use the token of a user who may annotate and change the project."
    try:
        context.label_studio.ask(
            "GET", "api/tasks/", params={"project": number, "page_size": 1, "fields": "task_only"}
        )
    except LabelStudioError as error:
        return fail(f"Tasks cannot be read. {error}", advice)
    try:
        context.label_studio.ask("POST", f"api/projects/{number}/import/predictions", json=[])
    except LabelStudioError as error:
        return fail(f"Predictions cannot be stored. {error}", advice)
    return ok("The token's user may read its tasks and store predictions.")


def state(context: Context, number: int) -> Finding:
    """What Fitloop itself says of the project."""
    said = context.adapters.get_object(f"/api/projects/{number}")
    if said.get("id") != number:
        return warn(
            "Fitloop does not look after it yet.",
            "Open the project's Settings > Model page in Label Studio, which makes it call; then look again in a minute.",
        )
    if problem := str(said.get("problem") or ""):
        return warn(f"Fitloop says: {problem}", f"`fitloop status {number}` tells more.")
    not_counted = str(said.get("not_counted_in_words") or "")
    if not_counted and not said.get("labelled"):
        return warn(
            f"No label counts. {not_counted}",
            "Correct them in Label Studio, or the label config; annotations that are only skipped need nothing.",
        )
    judged = (said.get("figures") or {}).get("judged") or {}
    if cut := str(judged.get("truncation") or ""):
        return warn(
            f"The newest version reads its texts only in part: {cut}",
            "Leave it where the beginning of a text decides.",
        )
    served = (said.get("served") or {}).get("current") or "nothing yet"
    quiet = str(said.get("sentence") or "all is quiet").rstrip(".")
    return ok(" ".join(filter(None, (f"It is served {served}; {quiet}.", _unless_said(not_counted, quiet)))))


def _unless_said(words: str, sentence: str) -> str:
    return "" if words.rstrip(".") in sentence else words


_LOOKS: Final = (
    ("found", found),
    ("question", question),
    ("rights", rights),
    ("backend", backend),
    ("webhook", webhook),
    ("event", event),
    ("state", state),
)


def _needs(number: int, name: str) -> tuple[str, ...]:
    """One cause makes one failure."""
    if name == "state":
        return ()
    return ("label studio", "token", *(() if name == "found" else (f"project {number}: found",)))


def _none(_: Context) -> Finding:
    return skipped(
        "Fitloop knows no project yet, so none was looked at.",
        "Connect one in Label Studio (Settings > Model), or say --project <id>.",
    )


def _unasked(context: Context, number: int) -> Finding:
    return reason_to_skip(context) or found(context, number)
