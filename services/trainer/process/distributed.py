"""The processes that train one model together: as many as RANK and WORLD_SIZE say, one by default.

Rank 0 decides and is the only one that writes; the others follow it. What is agreed on goes over gloo, gradients over
nccl on GPUs; nothing is pickled. One process alone imports nothing of torch.distributed. A process that dies is noticed
by the others, who end as preempted, and all go on from the last checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from services.core.errors import BadConfig, FitloopError, Preempted
from services.trainer.process.lifecycle import DeadlinePassed, Stop

if TYPE_CHECKING:
    import torch
    from torch import nn

_CONTROL_TIMEOUT = timedelta(hours=12)
"""For what rank 0 does alone: a dead peer is noticed at once, a slow one is the run's own time limit's business."""
_GRADIENT_TIMEOUT = timedelta(minutes=10)
"""For gradients, which all have at the same moment."""
_POLL_SECONDS = 0.02
_ON, _LATE, _ASKED = 0, 1, 2


class PeerLost(Preempted):
    """Another process of the run has ended."""

    def __init__(self) -> None:
        """Always the same sentence."""
        super().__init__(
            "Another process of this run has ended: all of them go on from the last checkpoint when they are started again."
        )


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and how many there are. Raises BadConfig."""
    try:
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise BadConfig("RANK and WORLD_SIZE must be whole numbers.") from error
    if not 0 <= rank < size:
        raise BadConfig(f"RANK {rank} is not below WORLD_SIZE {size}.")
    return rank, size


class Single:
    """One process alone: every agreement is with itself."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0

    def barrier(self, stop: Stop) -> None:
        """Wait until all have come here. Raises Preempted."""

    def broadcast(self, data: bytes, stop: Stop) -> bytes:  # noqa: ARG002 - Gang asks the others
        """Rank 0's `data`; that of the others is ignored. Raises Preempted."""
        return data

    def check_same(self, data: bytes, what: str, stop: Stop) -> None:
        """Raises Preempted where not all have the same."""

    def broadcast_weights(self, model: nn.Module) -> None:
        """Give everybody rank 0's weights. Raises PeerLost."""

    def reduce_gradients(self, model: nn.Module, loss: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - as above
        """Make each gradient the sum of all; the losses' sum. Raises PeerLost."""
        return loss

    def reduce(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sum of all arrays, which are of one shape. Raises PeerLost."""
        return array

    def stop_reason(self, stop: Stop) -> FitloopError | None:
        """Why all end now: any was asked to, or rank 0's time is up. Raises PeerLost."""
        return stop.reason()


SINGLE = Single()


class Distributed(Single):
    """One of several processes, over torch.distributed; made by `join`."""

    def __init__(self, rank: int, size: int) -> None:
        """Waits until all of them are there. Raises PeerLost."""
        import torch.distributed as dist

        self.rank, self.size = rank, size
        self._dist: Any = dist
        with _detect_lost_peer():
            dist.init_process_group("gloo", timeout=_CONTROL_TIMEOUT)
            self._gradients = dist.new_group(backend="nccl", timeout=_GRADIENT_TIMEOUT) if _on_gpu() else None

    def barrier(self, stop: Stop) -> None:
        """See Group; so are all others."""
        self._wait(lambda: self._dist.barrier(async_op=True), stop)

    def broadcast(self, data: bytes, stop: Stop) -> bytes:
        """See Group."""
        import torch

        size = torch.tensor([len(data)])
        self._wait(lambda: self._dist.broadcast(size, 0, async_op=True), stop)
        body = torch.empty(int(size), dtype=torch.uint8)
        if self.leads and data:
            body = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if len(body):
            self._wait(lambda: self._dist.broadcast(body, 0, async_op=True), stop)
        return body.numpy().tobytes()

    def check_same(self, data: bytes, what: str, stop: Stop) -> None:
        """See Group."""
        mine = hashlib.sha256(data).digest()
        theirs = self.broadcast(mine, stop)
        if self.reduce(np.array([mine != theirs], np.float32)).any():
            raise Preempted(
                f"The processes of this run do not have the same {what}, because somebody changed them meanwhile: it is "
                "started again."
            )

    def broadcast_weights(self, model: nn.Module) -> None:
        """See Group."""
        with _detect_lost_peer():
            for tensor in model.state_dict().values():
                self._dist.broadcast(tensor, 0, group=self._gradients)

    def reduce_gradients(self, model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
        """See Group. Each process has gradients for the same weights."""
        import torch

        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        flat = torch.cat([*(one.reshape(-1) for one in gradients), loss.detach().reshape(1)])
        with _detect_lost_peer():
            self._dist.all_reduce(flat, group=self._gradients)
        for one, summed in zip(gradients, flat[:-1].split([one.numel() for one in gradients]), strict=True):
            one.copy_(summed.view_as(one))
        return flat[-1]

    def reduce(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """See Group."""
        import torch

        summed = torch.from_numpy(array.copy())
        with _detect_lost_peer():
            self._dist.all_reduce(summed)
        found: NDArray[np.float32] = summed.numpy()
        return found

    def stop_reason(self, stop: Stop) -> FitloopError | None:
        """See Group. Over gloo, where a dead peer is noticed at once, so that nobody waits for it in nccl."""
        import torch

        mine = stop.reason()
        code = _ON if mine is None else _ASKED if isinstance(mine, Preempted) else _LATE
        worst = torch.tensor([code])
        with _detect_lost_peer():
            self._dist.all_reduce(worst, op=self._dist.ReduceOp.MAX)
        if int(worst) == _ASKED:
            return Preempted("The run was asked to end and is continued when it is started again.")
        return (mine or DeadlinePassed("It took longer than it may.")) if int(worst) == _LATE else None

    def wait_for_leader(self, stop: Stop) -> None:
        """Of a process that does not lead, at its end: wait until rank 0 has ended. Raises Preempted when asked to end."""
        try:
            self.broadcast(b"", stop)
        except PeerLost:
            return

    def _wait(self, begin: Callable[[], Any], stop: Stop) -> None:
        """Not blocking: a signal is heard meanwhile, however long the others take."""
        with _detect_lost_peer():
            work = begin()
            while not work.is_completed():
                stop.check()
                time.sleep(_POLL_SECONDS)
            work.wait()


def join() -> Single:
    """The group that the environment names, once all of it is there. Raises BadConfig, PeerLost."""
    rank, size = rank_and_world_size()
    if size == 1:
        return SINGLE
    if _on_gpu():
        _select_gpu()
    return Distributed(rank, size)


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _select_gpu() -> None:
    import torch

    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise BadConfig(
            f"There are {there} GPUs and more processes: set FITLOOP_PROCESSES_PER_POD to {there} at most."
        )
    torch.cuda.set_device(local)


@contextmanager
def _detect_lost_peer() -> Iterator[None]:
    """What torch.distributed raises when a peer is gone, or never came."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost from error
