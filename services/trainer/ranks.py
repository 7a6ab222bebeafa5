"""`python -P -m services.trainer.ranks --processes N -- --run URL`: a run by several processes, here and in other pods.

torch's launcher starts them and lets them rendezvous; this adds what a Job needs: the exit code is that of the process that
failed first (75, 64, 65 and 78 have a meaning; torchrun makes 1 of them all), SIGTERM is forwarded and the processes' last
checkpoint waited for, and a pod that starts again after the run is done ends with 0. A single process becomes the trainer, and
so does pod 0's for a run of kind `embed`, or of a class of the operator's, for which the other pods have nothing to do.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from services.core.domain import EMBED, RunState
from services.core.errors import BadConfig, FitloopError, Preempted
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.settings.training import available_cores
from services.trainer.process import parse_run_url

_TRAINER = ("-P", "-m", "services.trainer")
_SHUTDOWN_SECONDS = 600
"""For processes that were interrupted: the pod's grace period is shorter, and ends them all."""
_RENDEZVOUS_SECONDS = 900
"""How long the other pods may take to join."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The processes of a run."""

    processes: int
    """In each pod."""
    pods: int
    pod: int
    rendezvous: str
    """host:port of pod 0; "" with one pod."""

    def check(self) -> None:
        """Raise BadConfig if the numbers are inconsistent."""
        if self.processes < 1 or not 0 <= self.pod < self.pods:
            raise BadConfig(
                f"There cannot be {self.processes} processes in pod {self.pod} of {self.pods}: give --processes and --pods of at "
                "least 1, and --rank-of-pod below --pods (JOB_COMPLETION_INDEX in an Indexed Job)."
            )
        if self.pods > 1 and not self.rendezvous.rpartition(":")[2].isdigit():
            raise BadConfig(
                f"--rendezvous {self.rendezvous!r} is not a host:port: with several pods, give pod 0's (FITLOOP_RENDEZVOUS)."
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the launcher; a single process replaces it."""
    try:
        topology, run, rest = _parse(arguments)
        topology.check()
        if topology.processes * topology.pods == 1:
            os.execv(sys.executable, [sys.executable, *_TRAINER, *rest])  # noqa: S606 - our own program
        if is_done(run):
            return 0
        if is_alone(run):
            return run_alone(topology, rest)
        return launch(topology, run, rest)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def is_done(run: str) -> bool:
    """Return whether the run is done: the other pods have ended then, and would not join."""
    store, name = parse_run_url(run)
    status = Runs(store).status(name)
    return status is not None and status.state is RunState.DONE


def is_alone(run: str) -> bool:
    """Return whether one process does the run: it computes features of unlabelled texts, or a class of the operator's trains."""
    store, name = parse_run_url(run)
    request = Runs(store).request(name)
    return request is not None and (request.kind == EMBED or request.parameters.is_own_model)


def run_alone(topology: Topology, arguments: Sequence[str]) -> int:
    """Become the one process that does the run, in pod 0; the other pods have nothing to do."""
    if topology.pod == 0:
        os.execv(sys.executable, [sys.executable, *_TRAINER, *arguments])  # noqa: S606 - our own program
    return 0


def launch(topology: Topology, run: str, arguments: Sequence[str]) -> int:
    """Start this pod's processes, wait for them and return the exit code. Raises Preempted if the other pods do not join."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // topology.processes)))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        elastic_launch(launch_config(topology, run), sys.executable)(*_TRAINER, *arguments)
    except ChildFailedError as error:
        return shell_exit_code(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        sys.stderr.write(f"The run was interrupted ({error.sigval.name}).\n")
        return Preempted.exit_code
    except RuntimeError as error:  # of its store and its rendezvous
        raise Preempted(
            f"The pods of this run did not rendezvous at {topology.rendezvous or 'this one'} ({type(error).__name__})."
        ) from error
    return 0


def launch_config(topology: Topology, run: str) -> Any:
    """Return torch's LaunchConfig, without restarts: the pod is restarted instead."""
    from torch.distributed.launcher.api import LaunchConfig

    static: dict[str, Any] = {"rank": topology.pod, "timeout": _RENDEZVOUS_SECONDS}
    several = topology.pods > 1
    return LaunchConfig(
        min_nodes=topology.pods,
        max_nodes=topology.pods,
        nproc_per_node=topology.processes,
        run_id=run.rpartition("/")[2],
        rdzv_backend="static" if several else "c10d",
        rdzv_endpoint=topology.rendezvous if several else "localhost:0",
        rdzv_configs=static if several else {},
        max_restarts=0,
        monitor_interval=0.1,
        local_addr=None if several else "localhost",
        signals_to_handle="SIGTERM,SIGINT",
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )


def shell_exit_code(exit_code: int) -> int:
    """Return a child's exit code as shells do: 128 and the signal's number if one killed it."""
    return 128 - exit_code if exit_code < 0 else exit_code


def _parse(arguments: Sequence[str] | None) -> tuple[Topology, str, list[str]]:
    """Return the topology, the run's URL and the trainer's arguments. Raises BadConfig."""
    defaults = Settings.load().training
    parser = argparse.ArgumentParser("services.trainer.ranks", description="One run by several processes.")
    parser.add_argument("--processes", type=int, default=defaults.processes_per_pod, metavar="N")
    parser.add_argument("--pods", type=int, default=defaults.pods, metavar="M")
    parser.add_argument("--rank-of-pod", type=int, default=defaults.pod_index, metavar="I")
    parser.add_argument("--rendezvous", default=defaults.rendezvous, metavar="HOST:PORT")
    parser.add_argument("--run", required=True, metavar="URL")
    given = [argument for argument in (sys.argv[1:] if arguments is None else arguments) if argument != "--"]
    found, rest = parser.parse_known_args(given)
    topology = Topology(found.processes, found.pods, found.rank_of_pod, found.rendezvous)
    return topology, found.run, ["--run", found.run, *rest]


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM until torch's launcher does: the first process of a container ignores it by default."""
    raise Preempted("The run was interrupted before its processes had joined.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(main())
