"""`python -P -m services.trainer --run <store>/runs/<run>`: one run, from labels to published versions, top to bottom.

Exit codes: 0 done, 75 asked to end or a service is away (run it again), 64/65/78 the request, the labels or the settings are
wrong (do not), 1 anything else. status.json of the run says the same in a sentence. A run whose versions are already
published ends with 0; an `auto` run that had published its first goes on with its second. Of several processes (see
`services.trainer.ranks`) the first one writes, and the others end as it does.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import structlog

from services.core.domain import Parameters, RunRequest, RunState
from services.core.errors import FitloopError, Preempted, StoreError
from services.core.labelstudio import LabelStudio
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.store import ObjectStore
from services.core.telemetry import tracing
from services.core.telemetry.logs import configure, log_uncaught
from services.core.telemetry.tracebacks import safe_traceback
from services.trainer.methods.checkpoints import Checkpoints
from services.trainer.process import (
    Run,
    RunInputs,
    as_found,
    methods_of,
    parse_run_url,
    published_before,
    read_dataset,
    read_project,
    read_request,
)
from services.trainer.process.distributed import Distributed, Single, join, rank_and_world_size
from services.trainer.process.lifecycle import BackgroundCall, Stop, exit_process
from services.trainer.process.log_tail import LogTail
from services.trainer.process.progress import Progress, first_status
from services.trainer.process.resources import check_gpus, limit_threads_to_cgroup, scratch
from services.trainer.process.stores import ReadOnlyStore, RetryingStore
from services.trainer.versions import give_up_second, make_versions

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel

_FOLLOW_SECONDS = 30.0
"""For which a process waits to read how rank 0 has ended."""
log = structlog.get_logger()


class Ended(NamedTuple):
    """How a process ends."""

    state: RunState
    code: int
    message: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: everything that can go wrong becomes an exit code and a sentence."""
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
    given = parser.parse_args(arguments)
    limit_threads_to_cgroup()
    stop = Stop()
    stop.install_handlers()
    try:
        leads = rank_and_world_size()[0] == 0
        store, name = parse_run_url(given.run)
        runs = Runs(store if leads else ReadOnlyStore(store))
        request, status = read_request(runs, name), first_status(runs, name)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    printed = LogTail(runs, name)
    with (
        printed.capturing(),
        Progress(runs, status) as progress,
        closing(tracing),
    ):
        progress.log_tail = printed if given.keep_log else None
        ended = _work(runs.store, request, progress, stop, printed)
        return _end(progress, ended) if leads else _follow(runs, name, ended)


def _work(store: ObjectStore, request: RunRequest, progress: Progress, stop: Stop, printed: LogTail) -> Ended:
    """All that is between the first status and the last."""
    try:
        settings = Settings.load()
        if settings.training.keep_log:
            progress.log_tail = printed
        ids: dict[str, int | str] = {
            "run": request.run,
            "project": request.project_id,
            "attempt": progress.status.attempt,
        }
        configure(settings.logging, hidden=settings.secrets(), always=ids)
        if rank_and_world_size()[0] == 0:  # its clock is everybody's: the others end when it says so
            stop.limit_to(settings.training.run_seconds)
            tracing.configure(settings.tracing, "trainer")
        if settings.training.require_gpu:
            check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # processes in this pod
        group = join()
        if group.size > 1:
            structlog.contextvars.bind_contextvars(rank=group.rank)
        with scratch(), tracing.span("run", ids, parent=request.traceparent):
            train(_run(store, request, settings, progress, stop, group))
        if isinstance(group, Distributed) and not group.leads:
            group.wait_for_leader(stop)
            return Ended(
                RunState.PREEMPTED, Preempted.exit_code, None
            )  # unless rank 0's status says otherwise
    except FitloopError as error:
        again = error.exit_code == Preempted.exit_code
        (log.warning if again else log.error)("the run ended before its end", reason=str(error))
        return Ended(RunState.PREEMPTED if again else RunState.FAILED, error.exit_code, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library raises: log its stack, say a sentence
        log.error("the run crashed", frames=safe_traceback(error))
        stage = progress.status.stage or "starting"
        return Ended(
            RunState.FAILED,
            1,
            f"The run ended at stage {stage!r} with an error that Fitloop did not expect. Its log says where: please report it "
            "with those lines.",
        )
    return Ended(RunState.DONE, 0, None)


def _run(
    store: ObjectStore,
    request: RunRequest,
    settings: Settings,
    progress: Progress,
    stop: Stop,
    group: Single,
) -> Run:
    patient = RetryingStore(store, stop)
    labels = LabelStudio(settings.label_studio)
    seconds = settings.training.checkpoint_seconds
    return Run(request, Runs(patient), Registry(patient), labels, progress, stop, seconds, group)


def train(run: Run) -> None:
    """The story of a run: project, labels, base model, then a version by each method that has none yet."""
    run.progress.stage("reading")
    # The store without patience: a checkpoint that cannot be written costs a checkpoint, and no time.
    checkpoints = Checkpoints(
        run.progress.runs.store, run.name, run.progress.status.attempt, run.checkpoint_seconds
    )
    # Seconds of imports, while Label Studio answers.
    loading = BackgroundCall(lambda: _load_base(run.request.parameters))
    project, space, skipped = read_project(run)
    before = published_before(run, project)
    run.progress.restore_published(as_found(before, run.progress.status.published))
    try:
        if len(before) < len(methods_of(run.request.parameters.method)):
            resuming, published = checkpoints.exist(), bool(before)
            dataset = read_dataset(
                run, project, space, skipped=skipped, resuming=resuming, published=published
            )
            run.progress.stage("loading")
            origin = RunInputs(run.name, project, space, loading.result(run.stop), dataset)
            make_versions(run, origin, checkpoints, before)
    except Preempted:
        raise
    except Exception as error:  # whatever a library raises: a run that has a version has not failed
        if not run.progress.status.published:
            raise
        give_up_second(run, error)
    checkpoints.clear()


def _load_base(parameters: Parameters) -> BaseModel:
    from services.trainer.data.base_model import load_base

    return load_base(parameters.base_model, parameters.max_length, parameters.method)


def _end(progress: Progress, ended: Ended) -> int:
    try:
        progress.finish(*ended)
    except StoreError as error:
        log.error("the last status was not written", reason=str(error))
        return ended.code or error.exit_code
    return ended.code


def _follow(runs: Runs, name: str, ended: Ended) -> int:
    """A process that lost rank 0 ends as that one did, as soon as its status says so."""
    if ended.code != Preempted.exit_code:
        return ended.code
    until = time.monotonic() + _FOLLOW_SECONDS
    while time.monotonic() < until:
        try:
            status = runs.status(name)
        except StoreError:
            status = None
        if status is not None and status.exit_code is not None:
            return status.exit_code
        time.sleep(0.1)
    return ended.code


if __name__ == "__main__":
    log_uncaught()
    exit_process(main())
