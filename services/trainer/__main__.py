"""`python -P -m services.trainer --run <store>/runs/<run>`: one run, from labels to published versions, top to bottom.

Exit codes: 0 done, 75 asked to end (run it again), 64/65/78 the request, the labels or the settings are wrong (do not),
1 anything else. status.json of the run says the same in a sentence. A run whose versions are already published ends with
0; an `auto` run that had published its first goes on with its second.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from services.core.domain import Parameters, RunState
from services.core.errors import FitloopError, Preempted, StoreError
from services.core.labelstudio import LabelStudio
from services.core.logs import configure
from services.core.settings import Settings
from services.trainer.checkpoints import Checkpoints
from services.trainer.crash import frames_of
from services.trainer.preemption import Stop
from services.trainer.progress import Progress, first_status
from services.trainer.run import (
    Origin,
    Run,
    as_found,
    methods_of,
    parse_run_url,
    published_before,
    read_dataset,
    read_project,
    read_request,
)
from services.trainer.scratch import scratch
from services.trainer.versions import give_up_second, make_versions

if TYPE_CHECKING:
    from services.trainer.base import Base

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: everything that can go wrong becomes an exit code and a sentence."""
    parser = argparse.ArgumentParser(
        "services.trainer", description="One run, from labels to published versions."
    )
    parser.add_argument(
        "--run", required=True, metavar="URL", help="the run: file:///<data>/runs/<project>-<n>"
    )
    url = parser.parse_args(arguments).run
    # Before torch is imported: threads that sleep while they wait leave busy cores to others, and cost nothing on idle ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    stop = Stop()
    stop.listen()
    try:
        runs, registry, name = parse_run_url(url)
        request = read_request(runs, name)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    with (
        Progress(runs, first_status(runs, name)) as progress,
        structlog.contextvars.bound_contextvars(run=name),
    ):
        try:
            settings = Settings.load()
            configure(settings.logging)
            labels = LabelStudio(settings.label_studio)
            seconds = settings.training.checkpoint_seconds
            with scratch():
                train(Run(request, runs, registry, labels, progress, stop, seconds))
            state, code, message = RunState.DONE, 0, None
        except Preempted as error:
            state, code, message = RunState.PREEMPTED, error.exit_code, str(error)
        except FitloopError as error:
            log.error("the run failed", reason=str(error))
            state, code, message = RunState.FAILED, error.exit_code, str(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises: log its stack, say a sentence
            log.error("the run crashed", frames=frames_of(error))
            state, code, message = (
                RunState.FAILED,
                1,
                f"The run crashed ({type(error).__name__}): see its log.",
            )
        return _end(progress, state, code, message)


def train(run: Run) -> None:
    """The story of a run: project, labels, base model, then a version by each method that has none yet."""
    run.progress.stage("reading")
    checkpoints = Checkpoints(run.runs.store, run.name, run.progress.status.attempt, run.checkpoint_seconds)
    with ThreadPoolExecutor(1, "base") as pool:
        loading = pool.submit(
            _load_base, run.request.parameters
        )  # seconds of imports, while Label Studio answers
        project, space = read_project(run)
        before = published_before(run, project)
        run.progress.found(as_found(before, run.progress.status.published))
        try:
            if len(before) < len(methods_of(run.request.parameters.method)):
                resuming, published = checkpoints.exist(), bool(before)
                dataset = read_dataset(run, project, space, resuming=resuming, published=published)
                run.progress.stage("loading")
                origin = Origin(run.name, project, space, loading.result(), dataset)
                make_versions(run, origin, checkpoints, before)
        except Preempted:
            raise
        except Exception as error:  # whatever a library raises: a run that has a version has not failed
            if not run.progress.status.published:
                raise
            give_up_second(run, error)
    checkpoints.clear()


def _load_base(parameters: Parameters) -> Base:
    from services.trainer.base import load_base

    return load_base(parameters.base_model, parameters.max_length)


def _end(progress: Progress, state: RunState, code: int, message: str | None) -> int:
    try:
        progress.finish(state, code, message)
    except StoreError as error:
        log.error("the last status was not written", reason=str(error))
        return code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
