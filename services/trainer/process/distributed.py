"""The processes that train one model together: as many as RANK and WORLD_SIZE say, one by default.

Rank 0 decides and alone writes; the others follow it. Control messages go over gloo, gradients over nccl on GPUs; nothing is
pickled. A single process imports nothing of torch.distributed. If a process dies, the others end as preempted, and all
resume from the last checkpoint.
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
from services.trainer.process.lifecycle import DeadlinePassed, Stop, preempted

if TYPE_CHECKING:
    import torch
    from torch import nn

_CONTROL_TIMEOUT = timedelta(hours=12)
"""For what rank 0 does alone: a dead peer is noticed at once, and a slow one is stopped by the run's time limit."""
_GRADIENT_TIMEOUT = timedelta(minutes=10)
"""For gradients, which all ranks have at the same moment."""
_POLL_SECONDS = 0.02
_CONTINUE, _LATE, _REQUESTED = 0, 1, 2


class PeerLost(Preempted):
    """Another process of the run has ended."""

    def __init__(self) -> None:
        super().__init__(
            "Another process of this run has ended: all of them resume from the last checkpoint when they are started again."
        )


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes. Raises BadConfig."""
    try:
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise BadConfig("RANK and WORLD_SIZE must be whole numbers.") from error
    if not 0 <= rank < size:
        raise BadConfig(f"RANK {rank} is not below WORLD_SIZE {size}.")
    return rank, size


class Single:
    """One process alone."""

    rank = 0
    size = 1
    leads = True
    """Whether this process decides and writes: rank 0 does."""

    def broadcast(self, data: bytes, stop: Stop) -> bytes:  # noqa: ARG002 - Distributed uses it
        """Return rank 0's `data`; that of other ranks is ignored. Raises Preempted."""
        return data

    def check_same(self, data: bytes, what: str, stop: Stop) -> None:
        """Raise Preempted if not all ranks have the same data."""

    def broadcast_weights(self, model: nn.Module) -> None:
        """Copy rank 0's weights to all ranks. Raises PeerLost."""

    def reduce_gradients(self, model: nn.Module, loss: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - as above
        """Sum each gradient over all ranks, and return the sum of the losses. Raises PeerLost."""
        return loss

    def reduce(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum over all ranks of arrays of one shape. Raises PeerLost."""
        return array

    def stop_reason(self, stop: Stop) -> FitloopError | None:
        """Return why all ranks end now: one was interrupted, or rank 0's time is over. Raises PeerLost."""
        return stop.reason()


SINGLE = Single()


class Distributed:
    """One of several processes, over torch.distributed; `join` creates it. Its methods are those of `Single`."""

    def __init__(self, rank: int, size: int) -> None:
        """Wait until all processes have joined. Raises PeerLost."""
        import torch.distributed as dist

        self.rank, self.size, self.leads = rank, size, rank == 0
        self._dist: Any = dist
        with _detect_lost_peer():
            dist.init_process_group("gloo", timeout=_CONTROL_TIMEOUT)
            self._gradients = dist.new_group(backend="nccl", timeout=_GRADIENT_TIMEOUT) if _on_gpu() else None

    def broadcast(self, data: bytes, stop: Stop) -> bytes:
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
        mine = hashlib.sha256(data).digest()
        theirs = self.broadcast(mine, stop)
        if self.reduce(np.array([mine != theirs], np.float32)).any():
            raise Preempted(
                f"The processes of this run do not have the same {what}, because they changed meanwhile: it is started "
                "again."
            )

    def broadcast_weights(self, model: nn.Module) -> None:
        with _detect_lost_peer():
            for tensor in model.state_dict().values():
                self._dist.broadcast(tensor, 0, group=self._gradients)

    def reduce_gradients(self, model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
        """See Single. All ranks have gradients for the same weights."""
        import torch

        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        flat = torch.cat([*(one.reshape(-1) for one in gradients), loss.detach().reshape(1)])
        with _detect_lost_peer():
            self._dist.all_reduce(flat, group=self._gradients)
        for one, summed in zip(gradients, flat[:-1].split([one.numel() for one in gradients]), strict=True):
            one.copy_(summed.view_as(one))
        return flat[-1]

    def reduce(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        summed = torch.from_numpy(array.copy())
        with _detect_lost_peer():
            self._dist.all_reduce(summed)
        found: NDArray[np.float32] = summed.numpy()
        return found

    def stop_reason(self, stop: Stop) -> FitloopError | None:
        """See Single. Over gloo, which notices a dead peer at once, so that no rank waits for it in nccl."""
        import torch

        mine = stop.reason()
        code = _CONTINUE if mine is None else _REQUESTED if isinstance(mine, Preempted) else _LATE
        worst = torch.tensor([code])
        with _detect_lost_peer():
            self._dist.all_reduce(worst, op=self._dist.ReduceOp.MAX)
        if int(worst) == _REQUESTED:
            return preempted()
        return (mine or DeadlinePassed("It exceeded its time limit.")) if int(worst) == _LATE else None

    def wait_for_leader(self, stop: Stop) -> None:
        """Wait until rank 0 has ended. Raises Preempted when this process is interrupted."""
        try:
            self.broadcast(b"", stop)
        except PeerLost:
            return

    def _wait(self, begin: Callable[[], Any], stop: Stop) -> None:
        """Poll an asynchronous operation, so that a signal is handled however long the others take."""
        with _detect_lost_peer():
            work = begin()
            while not work.is_completed():
                stop.check()
                time.sleep(_POLL_SECONDS)
            work.wait()


Group = Single | Distributed


def join() -> Group:
    """Return the group that the environment names, once all of its processes have joined. Raises BadConfig, PeerLost."""
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
            f"There are more processes than the {there} GPUs: set FITLOOP_PROCESSES_PER_POD to {there} at most."
        )
    torch.cuda.set_device(local)


@contextmanager
def _detect_lost_peer() -> Iterator[None]:
    """Turn what torch.distributed raises when a peer is gone, or never came, into PeerLost."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost from error
