"""The processes that work on one run together: `ALONE`, or as many as WORLD_SIZE says (services.trainer.ranks starts them).

All of them go through the same story. The first, the leader, is the only one that writes anything; the others lend it
their share of each batch's gradient. What they tell each other is numbers, and JSON as bytes in a tensor: nothing is
unpickled. A process that finds another one gone raises Left; what that means, the leader's status.json says.
A run of one process imports nothing of torch.distributed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from services.core.errors import FitloopError

if TYPE_CHECKING:
    import torch
    from torch import nn

_PATIENCE = timedelta(minutes=30)
"""How long one process waits for another: reading labels and publishing a version take minutes where a store is away."""


class Left(FitloopError):
    """Another process of the run has ended (exit 75): all of them are started again."""

    exit_code = 75


class Apart(FitloopError):
    """The processes have read different labels (exit 75): somebody labelled in between, and the next attempt reads again."""

    exit_code = 75


@dataclass(frozen=True)
class Group:
    """One process, which asks nobody; what several do is in Processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, rows: list[int]) -> list[int]:
        """This process's part of a batch; it may be empty."""
        return rows[self.rank :: self.size]

    def barrier(self) -> None:
        """Returns once all have come here. Raises Left."""

    def any(self, flag: bool) -> bool:  # noqa: PLR6301 - Processes asks the others
        """Whether it is so in one of them. Raises Left."""
        return flag

    def tell(self, data: bytes) -> bytes:  # noqa: PLR6301 - Processes asks the leader
        """What the leader says, whatever the others give. Raises Left."""
        return data

    def start_alike(self, model: nn.Module) -> None:
        """Give all of them the leader's weights. Raises Left."""

    def sum_gradients(self, model: nn.Module, loss: torch.Tensor) -> torch.Tensor:  # noqa: PLR6301 - as above
        """Add up the gradients of all shares, in place, and their losses, which it returns. Raises Left."""
        return loss

    def check_same(self, mark: str) -> None:
        """Raises Apart in all of them where one has another mark than the leader; Left."""


ALONE = Group()


class Processes(Group):
    """Several of them, by torch.distributed: gloo on CPU, nccl between GPUs; what is said goes by gloo."""

    def barrier(self) -> None:
        """See Group."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """See Group."""
        import torch

        told = torch.tensor([int(flag)])
        self._sum(told)
        return bool(told.item())

    def tell(self, data: bytes) -> bytes:
        """See Group."""
        import torch
        from torch import distributed

        size = torch.tensor([len(data) if self.leads else 0])
        self._sum(size)
        told = torch.zeros(int(size.item()), dtype=torch.uint8)
        if self.leads and data:
            told = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if len(told):
            _together(lambda: distributed.broadcast(told, 0))
        return told.numpy().tobytes()

    def start_alike(self, model: nn.Module) -> None:
        """See Group."""
        from torch import distributed

        with _without_gradients():
            for tensor in [*model.parameters(), *model.buffers()]:
                _together(lambda tensor=tensor: distributed.broadcast(tensor.data, 0, _between(tensor)))  # type: ignore[misc]

    def sum_gradients(self, model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
        """See Group. A weight that no share has touched keeps no gradient, as in one process: the optimiser skips it."""
        import torch

        weights = [weight for weight in model.parameters() if weight.requires_grad]
        touched = torch.tensor([float(weight.grad is not None) for weight in weights], device=loss.device)
        parts = [
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).reshape(-1).float()
            for weight in weights
        ]
        everything = torch.cat([loss.detach().reshape(1).float(), touched, *parts])
        self._sum(everything)
        is_touched, at = everything[1 : 1 + len(weights)].tolist(), 1 + len(weights)
        for weight, there in zip(weights, is_touched, strict=True):
            found = everything[at : at + weight.numel()].view_as(weight)
            weight.grad = found.to(weight.dtype) if there else None
            at += weight.numel()
        return everything[0]

    def check_same(self, mark: str) -> None:
        """See Group."""
        if self.any(self.tell(mark.encode()) != mark.encode()):
            raise Apart(
                "The processes of this run have read different labels: somebody labelled meanwhile. All read again."
            )

    @staticmethod
    def _sum(tensor: torch.Tensor) -> None:
        from torch import distributed

        _together(lambda: distributed.all_reduce(tensor, group=_between(tensor)))


_devices: list[Any] = []
"""The nccl group, where there is one: between GPUs of all processes."""


def join() -> Group:
    """The processes that RANK and WORLD_SIZE name; ALONE without them. Raises Left."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    import torch
    from torch import distributed

    _together(lambda: distributed.init_process_group("gloo", timeout=_PATIENCE))
    group = Processes(rank, size)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    there = local < torch.cuda.device_count()
    if there:
        torch.cuda.set_device(local)
    if not group.any(not there):
        _devices.append(distributed.new_group(backend="nccl", timeout=_PATIENCE))
    return group


def lacks_gpu() -> bool:
    """Whether this process has no GPU for itself."""
    import torch

    return int(os.environ.get("LOCAL_RANK", "0")) >= torch.cuda.device_count()


def _between(tensor: torch.Tensor) -> Any:
    return _devices[0] if _devices and tensor.is_cuda else None


def _together(act: Callable[[], object]) -> None:
    try:
        act()
    except RuntimeError as error:  # what torch.distributed raises, whatever befell the other side
        raise Left(
            "Another process of the run has ended, or cannot be reached: all of them are started again."
        ) from error


@contextmanager
def _without_gradients() -> Iterator[None]:
    import torch

    with torch.no_grad():
        yield
