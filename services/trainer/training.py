"""A run of kind `train`: reads labels and encoder, then trains, evaluates, compares and publishes a version by each method."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING

import structlog

from services.core.domain import Manifest, Method, Parameters, Served
from services.core.errors import FitloopError, Preempted
from services.core.features import NO_KEYS
from services.core.labels.names import label_names
from services.core.telemetry.logs import safe_traceback
from services.trainer.data import RunInputs
from services.trainer.data.dataset import build_dataset, check_trainable
from services.trainer.data.features import Features, shared_features
from services.trainer.data.labels import read_labels, read_project, read_texts
from services.trainer.data.run_pool import RunPool
from services.trainer.evaluation import compare, current_for, evaluate, is_requested_by_person
from services.trainer.methods import TrainedModel, TrainingContext
from services.trainer.methods.by_name import METHODS
from services.trainer.methods.checkpoints import Checkpoints, agree_on_plan
from services.trainer.methods.plan import Speed, plan_for, second_method_deadline
from services.trainer.process import (
    RetryingStore,
    Run,
    methods_of,
    published_before,
    published_from,
    version_names,
)
from services.trainer.process.lifecycle import BUG, BackgroundCall, DeadlinePassed
from services.trainer.process.resources import has_gpu
from services.trainer.publishing import publish
from services.trainer.publishing.base_encoder import prepare_encoder, share_encoder

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel

log = structlog.get_logger()


def train(run: Run) -> None:
    """Read the project, its labels and the encoder, then make a version by each method that has none yet."""
    run.progress.stage("reading")
    # Written without retries: a checkpoint that cannot be written costs a checkpoint, and no time.
    store = RetryingStore(run.progress.runs.store, run.stop, changes=False)
    checkpoints = Checkpoints(store, run.name, run.progress.status.attempt, run.checkpoint_seconds)
    load_base = cache(partial(_load_base, run.request.parameters))
    preparing = BackgroundCall(partial(prepare_encoder, run, load_base))
    project, counts = read_project(run)
    before = published_before(run, project)
    known = {published.version: published for published in run.progress.status.published}
    run.progress.restore_published(
        tuple(known.get(manifest.version) or published_from(manifest) for manifest in before)
    )
    try:
        if len(before) < len(methods_of(run.request.parameters.method)):
            labels = read_labels(run, project, counts)
            pool = RunPool(run, project.key, labels) if run.group.leads else None
            dataset = build_dataset(labels, read_texts(run, labels))
            check_trainable(dataset, labels.space)
            run.progress.stage("loading")
            encoder = share_encoder(run, preparing.result(run.stop))
            inputs = RunInputs(project, labels.space, encoder, load_base, dataset, pool)
            make_versions(run, inputs, checkpoints, before)
    except Preempted:
        raise
    except Exception as error:  # whatever a library raises: a run that has a version has not failed
        if not run.progress.status.published:
            raise
        log.error("second_method_failed", frames=safe_traceback(error))
        _add_message(run, f"Fine-tuning failed: {error if isinstance(error, FitloopError) else BUG}")
    checkpoints.clear()


def _load_base(parameters: Parameters) -> BaseModel:
    # Imported only here: torch and transformers take seconds, and a probe on a known encoder needs neither.
    from services.trainer.data.base_model import load_base

    return load_base(parameters.base_model, parameters.max_length, parameters.method)


def make_versions(
    run: Run, inputs: RunInputs, checkpoints: Checkpoints, before: tuple[Manifest, ...]
) -> None:
    """Train, evaluate and publish by each method that has no version yet. Raises the FitloopError that ends the run."""
    parameters, group = run.request.parameters, run.group
    base_digest = inputs.load_base().digest if group.size > 1 else ""
    start = f"{inputs.fingerprint(parameters.method, parameters)} {base_digest} {len(before)}"
    group.check_same(start.encode(), "labels and base model", run.stop)
    names, pool = label_names(inputs.space), inputs.pool.keys if inputs.pool else lambda: NO_KEYS
    features = shared_features(run, inputs.encoder, inputs.project.key, inputs.dataset, names, pool)
    made = before[-1] if before else None
    steps = zip(methods_of(parameters.method), version_names(run, inputs.project), strict=True)
    for method, name in list(steps)[len(before) :]:
        run.stop.check()
        second = made is not None
        measure = partial(_measure_speed, run, method, inputs, features)
        make_plan = partial(plan_for, method, inputs, features, parameters, measure, second=second)
        plan = agree_on_plan(run, checkpoints, inputs.fingerprint(method, parameters), make_plan)
        if isinstance(plan, str):
            _add_message(run, plan)
            return
        if method is Method.LINEAR_PROBE and not group.leads:
            continue  # takes rank 0 seconds
        if second and group.leads:
            run.stop.deadline = second_method_deadline(parameters)
        try:
            trained = METHODS[method](TrainingContext(run, inputs, features, plan, checkpoints))
        except DeadlinePassed:
            _add_message(
                run, f"Fine-tuning was stopped: it took far more than {parameters.budget_seconds:.0f} s."
            )
            return
        finally:
            run.stop.deadline = math.inf
        if group.leads:
            made = make_version(run, name, inputs, features, trained, made)


def _measure_speed(run: Run, method: Method, inputs: RunInputs, features: Features) -> Speed:
    """Measure how fast the base model computes in fp32, which is loaded for it."""
    from services.trainer.data.speed import seconds_per_token
    from services.trainer.methods.hidden_states import fits_in_cache
    from services.trainer.methods.top_layers import can_cut, share_of_top

    base = inputs.load_base()
    with run.stop.interruptible():
        seconds = seconds_per_token(base, features.ids, run.stop)
        cut = method is Method.LP_FT and not has_gpu() and can_cut(base)
    share = share_of_top(base.encoder) if cut else 1.0
    return Speed(seconds, share, fits_in_cache(features.tokens, base.width))


def make_version(
    run: Run, name: str, inputs: RunInputs, features: Features, trained: TrainedModel, made: Manifest | None
) -> Manifest | None:
    """Evaluate, compare with what is served, and publish. `made`: the version that this run has published already.

    The first version is published whatever the gate decides, because people may want to promote it; the second of `auto`
    only if the gate promotes it: else None.
    """
    run.progress.stage("judging")
    with run.stop.interruptible():
        candidate = evaluate(trained, inputs.dataset, features)
    served = run.registry.serving().projects.get(inputs.project.key, Served())
    current = current_for(run.registry, inputs.project.key, served, made)
    decision, pairs = compare(
        candidate, current, run.registry, inputs, features, requested=is_requested_by_person(run.request)
    )
    if made is not None and not decision.promote:
        _add_message(run, f"Fine-tuning was tried and not kept. {' '.join(decision.reasons)}")
        return None
    manifest = publish(run, name, inputs, candidate, decision, pairs, features, current)
    run.progress.add_published(published_from(manifest, served.current if served.pinned else None))
    if inputs.pool:
        inputs.pool.store()
    return manifest


def _add_message(run: Run, text: str) -> None:
    log.info("second_method_skipped", reason=text)
    run.progress.set_message(f"{run.progress.status.message} {text}".strip())
