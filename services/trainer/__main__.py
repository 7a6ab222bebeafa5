"""`python -P -m services.trainer --run <store>/runs/<run>`: one run, from labels to published versions, top to bottom.

Exit codes: 0 done; 75 interrupted, or a service is unreachable (run it again); 64, 65, 78 the request, the labels or the settings are
wrong (do not); 1 anything else. status.json of the run says the same in words. A run whose versions are already
published ends with 0; an `auto` run that has published its first goes on with its second. Of several processes (see
`services.trainer.ranks`) rank 0 writes, and the others end as it does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing

import structlog

from services.core.domain import EMBED, RunRequest, RunState
from services.core.errors import FitloopError, Preempted, StoreError
from services.core.labelstudio import LabelStudio
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.telemetry import tracing
from services.core.telemetry.logs import configure, log_uncaught
from services.trainer.embedding import embed
from services.trainer.own_model import train_own_model
from services.trainer.process import ReadOnlyStore, RetryingStore, Run, parse_run_url, read_request
from services.trainer.process.distributed import Distributed, join, rank_and_world_size
from services.trainer.process.lifecycle import Exit, Stop, exit_code_of_leader, exit_for, exit_process
from services.trainer.process.log_tail import LogTail
from services.trainer.process.progress import Progress, first_status
from services.trainer.process.resources import check_gpus, limit_threads_to_cgroup, scratch
from services.trainer.training import train

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
        seconds, pool_seconds = settings.training.checkpoint_seconds, settings.training.pool_seconds
        with scratch(), tracing.span("run", ids, parent=request.traceparent):
            run = Run(
                request, Runs(store), Registry(store), labels, progress, stop, seconds, group, pool_seconds
            )
            if request.kind == EMBED:
                embed(run)
            elif request.parameters.is_own_model:
                train_own_model(run, settings, labels)
            else:
                train(run)
        if isinstance(group, Distributed) and not group.leads:
            group.wait_for_leader(stop)
            return Exit(RunState.PREEMPTED, Preempted.exit_code, None)  # unless rank 0's status differs
    except Exception as error:  # noqa: BLE001 - whatever a library raises becomes an exit
        return exit_for(error, progress.status.stage)
    return Exit(RunState.DONE, 0, None)


if __name__ == "__main__":
    log_uncaught()
    exit_process(main())
