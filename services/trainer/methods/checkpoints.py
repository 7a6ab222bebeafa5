"""runs/<run>/checkpoints/<attempt>/: what a fine-tune had done when its process ended. Safetensors and JSON.

state.json is written last and names the files that belong together: the answers of finished parts, and model, optimiser
and random state of the part in work. It carries a fingerprint of labels, texts and settings; one that differs is not
resumed. Each attempt writes a folder of its own and may point into those before it. All goes at the end of the run.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from services.core import documents
from services.core.documents import FORMAT
from services.core.errors import NotFound, StoreError
from services.core.store import ObjectStore
from services.trainer.data.features import Floats
from services.trainer.methods.plan import Plan

if TYPE_CHECKING:
    import torch
    from torch import nn

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class State:
    """state.json."""

    fingerprint: str
    plan: Plan | None = None
    """As it was made first: another process may measure other seconds."""
    parts: dict[str, str] = field(default_factory=dict)
    """Finished parts: name to the key of their out-of-sample logits."""
    current: str | None = None
    """The part in work."""
    key: str | None = None
    """Key of its model, optimiser and random state."""
    step: int = 0
    format: int = FORMAT


@dataclass
class Checkpoints:
    """The checkpoints of one run; this process writes those of `attempt`."""

    store: ObjectStore
    run: str
    attempt: int
    seconds: float
    state: State = field(default_factory=lambda: State(""))
    resumed_from: str | None = None
    """`<part>, step <n>`, for the manifest."""

    @property
    def _folder(self) -> str:
        return f"runs/{self.run}/checkpoints/"

    def exist(self) -> bool:
        """Whether an earlier attempt left any."""
        return bool(self.store.folders(self._folder))

    def resume(self, fingerprint: str) -> Plan | None:
        """Take over the newest attempt's state, if it was made from the same labels, texts and settings; its plan."""
        attempts = sorted(
            (int(name) for name in self.store.folders(self._folder) if name.isdigit()), reverse=True
        )
        found = next((state for number in attempts if (state := self._read(number))), None)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            log.info("checkpoint not resumed: labels or settings have changed")
            return None
        self.state, self.resumed_from = found, f"{found.current or 'between parts'}, step {found.step}"
        log.info("resumed", checkpoint=self.resumed_from)
        return found.plan

    def begin(self, fingerprint: str, plan: Plan) -> None:
        """From now on the checkpoints are of this work, unless it was resumed."""
        if self.state.fingerprint != fingerprint:
            self.state, self.resumed_from = State(fingerprint, plan), None

    def finished(self, part: str) -> Floats | None:
        """The out-of-sample logits of a part that an earlier attempt finished."""
        from safetensors.numpy import load

        key = self.state.parts.get(part)
        return None if key is None else load(self.store.read(key))["logits"]

    def finish(self, part: str, logits: Floats) -> None:
        """The part is done, and only its logits are still needed. A store that fails is logged, as in `save`."""
        from safetensors.numpy import save

        key = f"{self._folder}{self.attempt}/{part}.safetensors"
        try:
            self.store.write(key, save({"logits": np.ascontiguousarray(logits)}))
            self._replace(
                replace(self.state, parts=self.state.parts | {part: key}, current=None, key=None, step=0)
            )
        except StoreError as error:
            log.warning("answers not kept", part=part, error=str(error))

    def fold(self, part: str) -> FoldCheckpoint:
        """The checkpoint of a part that is to be trained now."""
        return FoldCheckpoint(self, part)

    def clear(self) -> None:
        """The run has ended: nothing is resumed any more. A store that fails is logged: what is left harms nobody."""
        try:
            for key in list(self.store.keys(self._folder)):
                self.store.delete(key)
        except StoreError as error:
            log.warning("checkpoints not removed", error=str(error))

    def upload(self, part: str, step: int, path: Path) -> None:
        """Put a part's state; what it replaces goes after state.json names it. Raises StoreError."""
        key = f"{self._folder}{self.attempt}/{part}-{step}.safetensors"
        self.store.upload(path, key)
        self._replace(replace(self.state, current=part, key=key, step=step))

    def _read(self, attempt: int) -> State | None:
        key = f"{self._folder}{attempt}/state.json"
        try:
            return documents.load(State, self.store.read(key), key)
        except NotFound:
            return None

    def _replace(self, state: State) -> None:
        self.store.write(f"{self._folder}{self.attempt}/state.json", documents.dump(state))
        old, self.state = self.state, state
        mine = f"{self._folder}{self.attempt}/"
        if old.key is not None and old.key != state.key and old.key.startswith(mine):
            self.store.delete(old.key)


@dataclass
class FoldCheckpoint:
    """Model, optimiser and random state of one part."""

    checkpoints: Checkpoints
    fold: str
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= self.checkpoints.seconds

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Everything that step `step` needs. A store that fails is logged: training goes on without a checkpoint."""
        from safetensors.torch import save_file

        try:
            with tempfile.TemporaryDirectory(prefix="fitloop-checkpoint-") as folder:
                path = Path(folder) / "state.safetensors"
                save_file(_flatten(model, optimiser), path)
                self.checkpoints.upload(self.fold, step, path)
            log.info("checkpoint", part=self.fold, step=step)
        except (StoreError, OSError) as error:
            log.warning("checkpoint not written", part=self.fold, step=step, error=str(error))
        self._last = time.monotonic()

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Bring model, optimiser and random state back; returns the step to go on with, 0 without a checkpoint."""
        from safetensors.torch import load_file

        state = self.checkpoints.state
        if state.current != self.fold or state.key is None:
            return 0
        _unflatten(load_file(self.checkpoints.store.local(state.key)), model, optimiser)
        return state.step


def _flatten(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    import torch

    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _unflatten(tensors: dict[str, torch.Tensor], model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    import torch

    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, field_name = name.split(".", 2)
            state.setdefault(int(number), {})[field_name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
