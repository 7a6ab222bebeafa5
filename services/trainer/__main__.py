"""`python -P -m services.trainer --run <store>/runs/<run>`: one run, from labels to published versions, top to bottom.

Exit codes: 0 done; 75 interrupted, or a service is unreachable (run it again); 64, 65, 78 the request, the labels or the settings are
wrong (do not); 1 anything else. status.json of the run says the same in words. A run whose versions are already
published ends with 0; an `auto` run that has published its first goes on with its second. Of several processes (see
`services.trainer.ranks`) rank 0 writes, and the others end as it does.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.core.domain import Manifest, Method, Parameters, RunRequest, RunState, Served
from services.core.errors import FitloopError, Preempted, StoreError
from services.core.labelstudio import LabelStudio
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.telemetry import tracing
from services.core.telemetry.logs import configure, log_uncaught, safe_traceback
from services.trainer.data import RunInputs
from services.trainer.data.dataset import build_dataset, check_trainable
from services.trainer.data.features import Features, shared_features
from services.trainer.data.labels import read_labels, read_project, read_texts
from services.trainer.methods import TrainedModel, TrainingContext
from services.trainer.methods.checkpoints import Checkpoints, agree_on_plan
from services.trainer.methods.plan import plan_for, second_method_deadline
from services.trainer.process import (
    ReadOnlyStore,
    RetryingStore,
    Run,
    methods_of,
    parse_run_url,
    published_before,
    published_from,
    read_request,
    version_names,
)
from services.trainer.process.distributed import Distributed, join, rank_and_world_size
from services.trainer.process.lifecycle import (
    BUG,
    BackgroundCall,
    DeadlinePassed,
    Exit,
    Stop,
    exit_code_of_leader,
    exit_for,
    exit_process,
)
from services.trainer.process.log_tail import LogTail
from services.trainer.process.progress import Progress, first_status
from services.trainer.process.resources import check_gpus, limit_threads_to_cgroup, scratch

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; whatever goes wrong becomes an exit code and a message."""
    parser = argparse.ArgumentParser(
        "services.trainer", description="One run, from labels to published versions."
    )
    parser.add_argument(
        "--run",
        required=True,
        metavar="URL",
        help="the run: file:///<data>/runs/<project>-<n> or s3://<bucket>/<prefix>/runs/<project>-<n>",
    )
    parser.add_argument(
        "--keep-log", action="store_true", help="keep the last lines in the run's log.txt (FITLOOP_KEEP_LOG)"
    )
    options = parser.parse_args(arguments)
    limit_threads_to_cgroup()
    stop = Stop()
    stop.install_handlers()
    try:
        leads = rank_and_world_size()[0] == 0
        store, name = parse_run_url(options.run)
        runs = Runs(store if leads else ReadOnlyStore(store))
        request, status = read_request(runs, name), first_status(runs, name)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    log_tail = LogTail(runs, name)
    with log_tail.capturing(), Progress(runs, status) as progress, closing(tracing):
        progress.log_tail = log_tail if options.keep_log else None
        ended = _work(runs, request, progress, stop, log_tail)
        if not leads:
            return exit_code_of_leader(runs, name, ended)
        try:
            progress.finish(*ended)
        except StoreError as error:
            log.error("final_status_not_written", reason=str(error))
            return ended.code or error.exit_code
        return ended.code


def _work(runs: Runs, request: RunRequest, progress: Progress, stop: Stop, log_tail: LogTail) -> Exit:
    """Do everything between the first status and the last."""
    try:
        settings = Settings.load()
        if settings.training.keep_log:
            progress.log_tail = log_tail
        ids: dict[str, int | str] = {"run": request.run, "project": request.project_id}
        ids["attempt"] = progress.status.attempt
        configure(settings.logging, hidden=settings.secrets(), always=ids)
        if rank_and_world_size()[0] == 0:  # its clock counts: the others end when it says so
            stop.limit_to(settings.training.run_seconds)
            tracing.configure(settings.tracing, "trainer")
        if settings.training.require_gpu:
            check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # processes in this pod
        group = join()
        if group.size > 1:
            structlog.contextvars.bind_contextvars(rank=group.rank)
        store = RetryingStore(runs.store, stop)
        labels = LabelStudio(settings.label_studio)
        seconds = settings.training.checkpoint_seconds
        with scratch(), tracing.span("run", ids, parent=request.traceparent):
            train(Run(request, Runs(store), Registry(store), labels, progress, stop, seconds, group))
        if isinstance(group, Distributed) and not group.leads:
            group.wait_for_leader(stop)
            return Exit(RunState.PREEMPTED, Preempted.exit_code, None)  # unless rank 0's status differs
    except Exception as error:  # noqa: BLE001 - whatever a library raises becomes an exit
        return exit_for(error, progress.status.stage)
    return Exit(RunState.DONE, 0, None)


def train(run: Run) -> None:
    """Read the project, its labels and the base model, then make a version by each method that has none yet."""
    run.progress.stage("reading")
    # Written without retries: a checkpoint that cannot be written costs a checkpoint, and no time.
    store = RetryingStore(run.progress.runs.store, run.stop, changes=False)
    checkpoints = Checkpoints(store, run.name, run.progress.status.attempt, run.checkpoint_seconds)
    loading = BackgroundCall(partial(_load_base, run.request.parameters))
    project, counts = read_project(run)
    before = published_before(run, project)
    known = {published.version: published for published in run.progress.status.published}
    run.progress.restore_published(
        tuple(known.get(manifest.version) or published_from(manifest) for manifest in before)
    )
    try:
        if len(before) < len(methods_of(run.request.parameters.method)):
            labels = read_labels(run, project, counts)
            dataset = build_dataset(labels, read_texts(run, labels))
            check_trainable(dataset, labels.space)
            run.progress.stage("loading")
            inputs = RunInputs(project, labels.space, loading.result(run.stop), dataset)
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
    # Imported here, while Label Studio answers: torch and transformers take seconds.
    from services.trainer.data.base_model import load_base

    return load_base(parameters.base_model, parameters.max_length, parameters.method)


def make_versions(
    run: Run, inputs: RunInputs, checkpoints: Checkpoints, before: tuple[Manifest, ...]
) -> None:
    """Train, evaluate and publish by each method that has no version yet. Raises the FitloopError that ends the run."""
    from services.trainer.methods.finetune import METHODS

    parameters, group = run.request.parameters, run.group
    start = f"{inputs.fingerprint(parameters.method, parameters)} {len(before)}"
    group.check_same(start.encode(), "labels and base model", run.stop)
    features = shared_features(run, inputs.base, inputs.dataset.texts)
    made = before[-1] if before else None
    steps = zip(methods_of(parameters.method), version_names(run, inputs.project), strict=True)
    for method, name in list(steps)[len(before) :]:
        run.stop.check()
        second = made is not None
        make_plan = partial(plan_for, method, inputs, features, parameters, second=second)
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


def make_version(
    run: Run, name: str, inputs: RunInputs, features: Features, trained: TrainedModel, made: Manifest | None
) -> Manifest | None:
    """Evaluate, compare with what is served, and publish. `made`: the version that this run has published already.

    The first version is published whatever the gate decides, because people may want to promote it; the second of `auto`
    only if the gate promotes it: else None.
    """
    from services.trainer.evaluation import compare, current_for, evaluate, is_requested_by_person
    from services.trainer.publishing import publish

    run.progress.stage("judging")
    with run.stop.interruptible():
        candidate = evaluate(trained, inputs.dataset, features)
    served = run.registry.serving().projects.get(inputs.project.key, Served())
    current = current_for(run.registry, inputs.project.key, served, made)
    decision, pairs = compare(
        candidate, current, run.registry, inputs, requested=is_requested_by_person(run.request)
    )
    if made is not None and not decision.promote:
        _add_message(run, f"Fine-tuning was tried and not kept. {' '.join(decision.reasons)}")
        return None
    manifest = publish(run, name, inputs, candidate, decision, pairs)
    run.progress.add_published(published_from(manifest, served.current if served.pinned else None))
    return manifest


def _add_message(run: Run, text: str) -> None:
    log.info("second_method_skipped", reason=text)
    run.progress.set_message(f"{run.progress.status.message} {text}".strip())


if __name__ == "__main__":
    log_uncaught()
    exit_process(main())
