"""A version by each method of a run: fit, judge, gate, export, publish. What `train` in __main__ tells in one line.

The first version is published whatever the gate says, because people may want to promote it; the second of `auto` only if
the gate lets it through.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.core.domain import Manifest, Method, RunRequest, Served
from services.core.errors import FitloopError
from services.core.telemetry.tracebacks import safe_traceback
from services.trainer.data.split import is_in_holdout
from services.trainer.methods.coordination import agreed_plan, check_same_start, features_for, fingerprint_of
from services.trainer.methods.plan import (
    CROSS_FIT,
    Plan,
    fit_seconds,
    plan_explicit,
    plan_second_method,
    recipe_for,
)
from services.trainer.process import Run, RunInputs, as_published, methods_of, version_names
from services.trainer.process.lifecycle import DeadlinePassed

if TYPE_CHECKING:
    from services.trainer.data.features import Features
    from services.trainer.methods.checkpoints import Checkpoints
    from services.trainer.methods.context import TrainedModel, TrainingContext

log = structlog.get_logger()
_PATIENCE = 1.5
"""How many times its budget the second method of `auto` may take, once it was begun."""


def make_versions(
    run: Run, origin: RunInputs, checkpoints: Checkpoints, before: tuple[Manifest, ...]
) -> None:
    """A version by each method that has none yet. Raises whatever FitloopError ends the run."""
    from services.trainer.methods import method_of

    check_same_start(run, origin, len(before))
    features = features_for(run, origin)
    made = before[-1] if before else None
    steps = zip(methods_of(run.request.parameters.method), version_names(run, origin.project), strict=True)
    for method, name in list(steps)[len(before) :]:
        run.stop.check()
        second = made is not None
        plan = agreed_plan(
            run,
            checkpoints,
            fingerprint_of(method, origin, run),
            partial(plan_of, run, method, origin, features, second=second),
        )
        if isinstance(plan, str):
            _add_sentence(run, plan)
            return
        if method is Method.LINEAR_PROBE and not run.group.leads:
            continue  # seconds of work, which nobody shares
        run.stop.deadline = deadline_of(run, second=second)
        try:
            fitted = method_of(method)(_work(run, origin, features, plan, checkpoints))
        except DeadlinePassed:
            allowed = run.request.parameters.budget_seconds
            _add_sentence(
                run,
                f"Fine-tuning was given up: the machine is busy, and it took far more than {allowed:.0f} s.",
            )
            return
        finally:
            run.stop.deadline = math.inf
        if run.group.leads:
            made = make_version(run, origin, name, fitted, features, made)


def _work(
    run: Run, origin: RunInputs, features: Features, plan: Plan, checkpoints: Checkpoints
) -> TrainingContext:
    from services.trainer.methods.context import TrainingContext

    return TrainingContext(
        base=origin.base,
        dataset=origin.dataset,
        features=features,
        parameters=run.request.parameters,
        plan=plan,
        progress=run.progress,
        stop=run.stop,
        checkpoints=checkpoints,
        group=run.group,
    )


def make_version(
    run: Run, origin: RunInputs, name: str, fitted: TrainedModel, features: Features, made: Manifest | None
) -> Manifest | None:
    """Judge and publish; `made` is the version that this run has published already. None: not kept."""
    from services.trainer.evaluation import compare, evaluate, read_current
    from services.trainer.publishing import export, manifest_of, publish, temporary_folder

    run.progress.stage("judging")
    with run.stop.interruptible():
        candidate = evaluate(fitted, origin.dataset, features)
    served = run.registry.serving().projects.get(origin.project.key, Served())
    current = read_current(run.registry, origin.project.key, served.current)
    if made is not None and made.gate.promote and not served.pinned:
        current = made  # will be served by then
    compared = compare(candidate, current, run.registry, origin, asked=is_asked_for(run.request))
    decision = compared.decision
    if made is not None and not decision.promote:
        _add_sentence(run, f"Fine-tuning was tried and not kept. {' '.join(decision.reasons)}")
        return None
    with temporary_folder() as folder:
        run.progress.stage("exporting")
        with run.stop.interruptible():
            artefact = export(Path(folder), origin, candidate)
        run.progress.stage("publishing")
        manifest = manifest_of(name, origin, candidate, artefact, decision, time.time())
        manifest = publish(run.registry, Path(folder), manifest, origin, candidate, run.stop, compared.pairs)
    run.progress.add_published(as_published(manifest, served.current if served.pinned else None))
    log.info(
        "published",
        version=name,
        promote=decision.promote,
        reason=" ".join(decision.reasons),
        engine=artefact.engine,
    )
    return manifest


def is_asked_for(request: RunRequest) -> bool:
    """Whether a person asked for what the run makes: they gave it parameters, and the method is not left to the rule."""
    return bool(request.asked) and request.parameters.method is not Method.AUTO


def plan_of(run: Run, method: Method, origin: RunInputs, features: Features, *, second: bool) -> Plan | str:
    """How the method judges itself within its time; for the second method of `auto`, perhaps why it is left out."""
    texts, parameters = len(origin.dataset.examples), run.request.parameters
    if method is Method.LINEAR_PROBE:
        return Plan(CROSS_FIT, refit=True, seconds=0.0)
    recipe = recipe_for(method, texts, origin.base.width, parameters)
    one_fit = fit_seconds(sum(features.lengths), recipe.epochs, features.seconds_per_token)
    if not second:
        return plan_explicit(texts, one_fit, parameters.budget_seconds)
    held_out = sum(is_in_holdout(key, texts) for key in origin.dataset.split_keys)
    return plan_second_method(texts, held_out, one_fit, parameters.budget_seconds)


def give_up_second(run: Run, error: Exception) -> None:
    """Say why there is no second version: the first stands, and people have it already."""
    why = (
        str(error)
        if isinstance(error, FitloopError)
        else "with an error that Fitloop did not expect. The run's log says where: please report it with those lines."
    )
    log.error("the second method failed", frames=safe_traceback(error))
    _add_sentence(run, f"Fine-tuning failed: {why}")


def deadline_of(run: Run, *, second: bool) -> float:
    """When `auto` gives its second method up; the plan was made from how fast the machine was then."""
    if not second or not run.group.leads:
        return math.inf
    return time.monotonic() + _PATIENCE * run.request.parameters.budget_seconds


def _add_sentence(run: Run, sentence: str) -> None:
    log.info("second method", outcome=sentence)
    run.progress.set_message(f"{run.progress.status.message} {sentence}".strip())
