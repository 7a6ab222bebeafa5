"""Each project: it exists, its label config can be learned, our rights, its backend, its webhook, its state in Fitloop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from services.cli.checks import Check, Context, Finding, fail, ok, skipped, warn
from services.cli.checks.label_studio import backend, find_ours, list_backends, reason_to_skip
from services.cli.checks.webhook import event, webhook
from services.core.errors import BadRequest, LabelStudioError, LabelStudioNotFound, NoLabelSpace
from services.core.labels import parse_label_space
from services.core.settings.parameters import apply_overrides, parse_parameters


def checks(context: Context) -> list[Check]:
    """Return the checks of each project; a skipped one if no project is known or Label Studio cannot be queried."""
    if not context.projects:
        return [Check("projects", _no_project)]
    is_asked = reason_to_skip(context) is None
    by_name = _CHECKS if is_asked else (("in label studio", _not_asked), ("state", state))
    return [
        Check(f"project {number}: {name}", partial(run, number=number), 45.0, _needs(number, name))
        for number in context.projects
        for name, run in by_name
    ]


def found(context: Context, number: int) -> Finding:
    try:
        project, counts = context.label_studio.project(number)
    except LabelStudioNotFound:
        return fail(
            f"Label Studio has no project {number} that the token's user can see.",
            "Correct --project, or give that user access to the project's workspace.",
        )
    _, counted, _ = context.label_studio.newest(number)
    if counted < counts.annotations:
        return warn(
            f"{project.title!r} has {counts.annotations} annotations, and its tasks' own counters say {counted}: Label Studio's lists "
            "take labelled tasks for unlabelled ones, and Fitloop suggests labels for them. Training counts each label.",
            "Let Label Studio count again, where it runs: label-studio calculate_stats_all_orgs --from-scratch",
        )
    return ok(f"{project.title!r}, {counts.annotated_tasks} of {counts.tasks} tasks labelled.")


def question(context: Context, number: int) -> Finding:
    """Check that a text classifier can learn the label config; a class of the user's reads any."""
    project, _ = context.label_studio.project(number)
    ours = find_ours(context, list_backends(context, number))
    parameters, _ = parse_parameters(ours.extra_params if ours else None)
    control = parameters.get("control") or context.settings.trigger.control_of(number)
    if model := _own_model(context, number, parameters):
        return ok(f"{model} reads it, whatever it asks.")
    try:
        space = parse_label_space(project.label_config, control)
    except NoLabelSpace as error:
        return fail(str(error), "Change the labeling interface in the project's settings.")
    return ok(f"{space.note}, {len(space.labels)} labels.")


def _own_model(context: Context, number: int, overrides: Mapping[str, str]) -> str:
    """Return the class that trains and predicts; "" if Fitloop's own methods do."""
    settings = context.settings
    given = {**settings.trigger.parameters_of(number), **overrides}
    try:
        found = apply_overrides(settings.training.parameters(), given)
    except BadRequest:
        return ""
    return found.model or "" if found.is_own_model else ""


def rights(context: Context, number: int) -> Finding:
    """Read a task, and store an empty list of predictions."""
    advice = "Use the token of a user who can annotate and change the project."
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
    return ok("The token's user can read tasks and store predictions.")


def state(context: Context, number: int) -> Finding:
    """Report the project's state in Fitloop."""
    status = context.adapters.get_object(f"/api/projects/{number}")
    if status.get("id") != number:
        return warn(
            "Fitloop is not connected to the project yet.",
            "Open the project's Settings > Model page in Label Studio, which makes it call Fitloop; check again in a minute.",
        )
    if problem := str(status.get("problem") or ""):
        return warn(f"Fitloop reports: {problem}", f"`fitloop status {number}` shows more.")
    not_counted = str(status.get("not_counted_in_words") or "")
    if not_counted and not status.get("labelled"):
        return warn(
            f"No label counts. {not_counted}",
            "Correct the annotations in Label Studio, or the label config; skipped annotations need no action.",
        )
    judged = (status.get("figures") or {}).get("judged") or {}
    if cut := str(judged.get("truncation") or ""):
        return warn(
            f"The newest version reads only a part of its texts: {cut}",
            "Leave it so if the beginning of a text decides.",
        )
    served = (status.get("served") or {}).get("current") or "no version yet"
    status_text = str(status.get("sentence") or "idle").rstrip(".")
    rest = "" if not_counted.rstrip(".") in status_text else f" {not_counted}"
    return ok(f"Serving {served}. {status_text[:1].upper()}{status_text[1:]}.{rest}")


_CHECKS: Final = (
    ("found", found),
    ("question", question),
    ("rights", rights),
    ("backend", backend),
    ("webhook", webhook),
    ("event", event),
    ("state", state),
)


def _needs(number: int, name: str) -> tuple[str, ...]:
    if name == "state":
        return ()
    return ("label studio", "token", *(() if name == "found" else (f"project {number}: found",)))


def _no_project(_: Context) -> Finding:
    return skipped(
        "Fitloop knows no project yet, so none was checked.",
        "Connect one in Label Studio (Settings > Model), or pass --project <id>.",
    )


def _not_asked(context: Context, number: int) -> Finding:
    return reason_to_skip(context) or found(context, number)
