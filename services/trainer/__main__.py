"""`python -P -m services.trainer --run <store>/runs/<run>`: one run, from labels to published versions, top to bottom.

Exit codes: 0 done, 75 asked to end (run it again), 64/65/78 the request, the labels or the settings are wrong (do not),
1 anything else. status.json of the run says the same in a sentence. A run whose versions are already published ends with
0; an `auto` run that had published its first goes on with its second.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from services.core.domain import LabelSpace, Manifest, Method, RunState
from services.core.errors import FitloopError, Preempted, StoreError
from services.core.labelstudio import LabelStudio
from services.core.logs import configure
from services.core.settings import Settings
from services.trainer.preemption import Stop
from services.trainer.progress import Progress, first_status
from services.trainer.run import (
    Run,
    as_published,
    methods_of,
    parse_run_url,
    published_before,
    read_project,
    read_request,
    read_tasks,
    version_names,
)

if TYPE_CHECKING:
    from services.trainer.base import Base
    from services.trainer.features import Features
    from services.trainer.methods import Work
    from services.trainer.plan import Plan
    from services.trainer.publish import Origin

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: everything that can go wrong becomes an exit code and a sentence."""
    parser = argparse.ArgumentParser("services.trainer", description="One run, from labels to published versions.")
    parser.add_argument("--run", required=True, metavar="URL", help="the run: file:///<data>/runs/<project>-<n>")
    url = parser.parse_args(arguments).run
    stop = Stop()
    stop.listen()
    try:
        runs, registry, name = parse_run_url(url)
        request = read_request(runs, name)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    with Progress(runs, first_status(runs, name)) as progress, structlog.contextvars.bound_contextvars(run=name):
        try:
            settings = Settings.load()
            configure(settings.logging)
            labels = LabelStudio(settings.label_studio)
            seconds = settings.training.checkpoint_seconds
            train(Run(request, runs, registry, labels, progress, stop, seconds))
            state, code, message = RunState.DONE, 0, None
        except Preempted as error:
            state, code, message = RunState.PREEMPTED, error.exit_code, str(error)
        except FitloopError as error:
            log.error("the run failed", reason=str(error))  # noqa: TRY400 - the sentence is all that a person needs
            state, code, message = RunState.FAILED, error.exit_code, str(error)
        except Exception as error:  # whatever a library raises: the log has the traceback, the status a sentence
            log.exception("the run crashed")
            state, code, message = RunState.FAILED, 1, f"The run crashed ({type(error).__name__}): see its log."
        return _end(progress, state, code, message)


def train(run: Run) -> None:
    """The story of a run: labels, base model, features, then a version for each method."""
    parameters = run.request.parameters
    run.progress.stage("reading")
    with ThreadPoolExecutor(1, "base") as pool:
        loading = pool.submit(_load_base, parameters.base_model, parameters.max_length)
        project, space = read_project(run)
        before = published_before(run, project)
        for manifest in before:
            run.progress.published(as_published(manifest))
        if len(before) == len(version_names(run, project)):
            return
        checkpoints = open_checkpoints(run)
        dataset = ...
    
if __name__ == "__main__":
    sys.exit(main())
