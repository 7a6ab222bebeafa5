"""`python -P -m services.trainer.ranks --processes N -- --run URL`: a run by several processes, here and in other pods.

torch's own launcher starts them and has them meet; this adds what a Job needs: the exit code is that of the process that
failed first (75, 64, 65 and 78 mean something; torchrun makes 1 of all), SIGTERM is handed on and what they keep is waited
for, and a pod that starts again after the run is done ends with 0. With one process in all it becomes the trainer itself.
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

from services.core.domain import RunState
from services.core.errors import BadConfig, FitloopError, Preempted
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.settings.training import available_cores
from services.trainer.process import parse_run_url

_TRAINER = ("-P", "-m", "services.trainer")
_SHUTDOWN_SECONDS = 600
"""For processes that were asked to end: the pod's own grace period is shorter, and ends them all."""
_RENDEZVOUS_SECONDS = 900
"""For the other pods to come."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Which processes there are."""

    processes: int
    """In each pod."""
    pods: int
    pod: int
    rendezvous: str
    """host:port of pod 0; "" with one pod."""

    def check(self) -> None:
        """Raises BadConfig where it does not make sense."""
        if self.processes < 1 or not 0 <= self.pod < self.pods:
            raise BadConfig(
                f"{self.processes} processes in pod {self.pod} of {self.pods} cannot be: give --processes and --pods of at "
                "least 1, and --rank-of-pod below --pods (JOB_COMPLETION_INDEX in an Indexed Job)."
            )
        if self.pods > 1 and not self.rendezvous.rpartition(":")[2].isdigit():
            raise BadConfig(
                f"--rendezvous {self.rendezvous!r} is no host:port: with several pods, name pod 0's (FITLOOP_RENDEZVOUS)."
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """The wrapper; does not return where one process is enough."""
    try:
        layout, run, rest = _parse(arguments)
        layout.check()
        if layout.processes * layout.pods == 1:
            os.execv(sys.executable, [sys.executable, *_TRAINER, *rest])  # noqa: S606 - our own program
        if is_done(run):
            return 0
        return launch(layout, run, rest)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def is_done(run: str) -> bool:
    """Whether nothing is left to do: the others have ended then, and would be waited for in vain."""
    store, name = parse_run_url(run)
    status = Runs(store).status(name)
    return status is not None and status.state is RunState.DONE


def launch(layout: Topology, run: str, arguments: Sequence[str]) -> int:
    """Start this pod's processes and wait for them all; the exit code. Raises Preempted where the others do not come."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // layout.processes)))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        elastic_launch(launch_config(layout, run), sys.executable)(*_TRAINER, *arguments)
    except ChildFailedError as error:
        return shell_exit_code(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        sys.stderr.write(f"The run was asked to end ({error.sigval.name}).\n")
        return Preempted.exit_code
    except RuntimeError as error:  # its store's and its rendezvous' errors are such
        raise Preempted(
            f"The pods of this run did not meet at {layout.rendezvous or 'this one'} ({type(error).__name__})."
        ) from error
    return 0


def launch_config(layout: Topology, run: str) -> Any:
    """A LaunchConfig of torch: no restarts, for whoever started the pod does that."""
    from torch.distributed.launcher.api import LaunchConfig

    static: dict[str, Any] = {"rank": layout.pod, "timeout": _RENDEZVOUS_SECONDS}
    several = layout.pods > 1
    return LaunchConfig(
        min_nodes=layout.pods,
        max_nodes=layout.pods,
        nproc_per_node=layout.processes,
        run_id=run.rpartition("/")[2],
        rdzv_backend="static" if several else "c10d",
        rdzv_endpoint=layout.rendezvous if several else "localhost:0",
        rdzv_configs=static if several else {},
        max_restarts=0,
        monitor_interval=0.1,
        local_addr=None if several else "localhost",
        signals_to_handle="SIGTERM,SIGINT",
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )


def shell_exit_code(exit_code: int) -> int:
    """A child's end as a process's own: killed by a signal is 128 and its number, as shells say."""
    return 128 - exit_code if exit_code < 0 else exit_code


def _parse(arguments: Sequence[str] | None) -> tuple[Topology, str, list[str]]:
    """The layout, the run's URL, and what the trainer is given. Raises BadConfig."""
    defaults = Settings.load().training
    parser = argparse.ArgumentParser("services.trainer.ranks", description="One run by several processes.")
    parser.add_argument("--processes", type=int, default=defaults.processes_per_pod, metavar="N")
    parser.add_argument("--pods", type=int, default=defaults.pods, metavar="M")
    parser.add_argument("--rank-of-pod", type=int, default=defaults.pod_index, metavar="I")
    parser.add_argument("--rendezvous", default=defaults.rendezvous, metavar="HOST:PORT")
    parser.add_argument("--run", required=True, metavar="URL")
    given = [one for one in (sys.argv[1:] if arguments is None else arguments) if one != "--"]
    found, rest = parser.parse_known_args(given)
    layout = Topology(found.processes, found.pods, found.rank_of_pod, found.rendezvous)
    return layout, found.run, ["--run", found.run, *rest]


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM before torch's launcher listens: by default the first process of a container would not hear it."""
    raise Preempted("The run was asked to end before its processes had met.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(main())
