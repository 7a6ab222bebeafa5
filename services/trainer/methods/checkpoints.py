"""runs/<run>/checkpoints/<attempt>/: what a fine-tune had done when its process ended. Safetensors and JSON.

state.json is written last and names the files that belong together: the logits of finished folds, and model, optimiser and
random state of the current one. It carries a fingerprint of labels, texts and settings; a checkpoint with another one is not
resumed. Each attempt writes a folder of its own and may refer to those before it. All are removed at the end of the run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from services.core import documents
from services.core.documents import FORMAT
from services.core.errors import NotFound, StoreError
from services.core.store import ObjectStore
from services.trainer.methods.plan import Plan
from services.trainer.process import Run

if TYPE_CHECKING:
    import torch
    from torch import nn

    from services.trainer.data.features import Floats

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class State:
    """state.json."""

    fingerprint: str
    plan: Plan | None = None
    """The first one: another process may measure other seconds."""
    parts: dict[str, str] = field(default_factory=dict)
    """Finished folds: name to the key of their out-of-sample logits."""
    current: str | None = None
    """The unfinished fold."""
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
    """`<fold>, step <n>`, for the manifest."""

    @property
    def _folder(self) -> str:
        return f"runs/{self.run}/checkpoints/"

    def exist(self) -> bool:
        """Return whether an earlier attempt left any."""
        return bool(self.store.folders(self._folder))

    def resume(self, fingerprint: str) -> Plan | None:
        """Resume the newest attempt's state if it has the same fingerprint, and return its plan."""
        attempts = sorted(
            (int(name) for name in self.store.folders(self._folder) if name.isdigit()), reverse=True
        )
        found = next((state for number in attempts if (state := self._read(number))), None)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            log.info("checkpoint_outdated", reason="labels or settings have changed")
            return None
        self.state, self.resumed_from = found, f"{found.current or 'between folds'}, step {found.step}"
        log.info("checkpoint_resumed", checkpoint=self.resumed_from)
        return found.plan

    def begin(self, fingerprint: str, plan: Plan) -> None:
        """Start new checkpoints with this fingerprint, unless they were resumed."""
        if self.state.fingerprint != fingerprint:
            self.state, self.resumed_from = State(fingerprint, plan), None

    def finished(self, fold: str) -> Floats | None:
        """Return the out-of-sample logits of a fold that an earlier attempt finished."""
        from safetensors.numpy import load

        key = self.state.parts.get(fold)
        return None if key is None else load(self.store.read(key))["logits"]

    def finish(self, fold: str, logits: Floats) -> None:
        """Keep the logits of a finished fold, and nothing else of it. A store that fails is logged, as in `save`."""
        from safetensors.numpy import save

        key = f"{self._folder}{self.attempt}/{fold}.safetensors"
        try:
            self.store.write(key, save({"logits": np.ascontiguousarray(logits)}))
            self._replace(
                replace(self.state, parts=self.state.parts | {fold: key}, current=None, key=None, step=0)
            )
        except StoreError as error:
            log.warning("logits_not_written", fold=fold, error=str(error))

    def fold(self, name: str) -> FoldCheckpoint:
        """Return the checkpoint of a fold that is about to be trained."""
        return FoldCheckpoint(self, name)

    def clear(self) -> None:
        """Remove all checkpoints at the end of the run. A store that fails is logged: what is left does no harm."""
        try:
            for key in list(self.store.keys(self._folder)):
                self.store.delete(key)
        except StoreError as error:
            log.warning("checkpoints_not_removed", error=str(error))

    def upload(self, fold: str, step: int, path: Path) -> None:
        """Upload a fold's state; the one before is deleted once state.json names the new one. Raises StoreError."""
        key = f"{self._folder}{self.attempt}/{fold}-{step}.safetensors"
        self.store.upload(path, key)
        self._replace(replace(self.state, current=fold, key=key, step=step))

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
    """Model, optimiser and random state of one fold."""

    checkpoints: Checkpoints
    fold: str
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Return whether it is time for another one."""
        return time.monotonic() - self._last >= self.checkpoints.seconds

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Write everything that resuming after `step` needs. A store that fails is logged: training goes on without a checkpoint."""
        from safetensors.torch import save_file

        from services.trainer.methods.training_state import flatten

        try:
            with tempfile.TemporaryDirectory(prefix="fitloop-checkpoint-") as folder:
                path = Path(folder) / "state.safetensors"
                save_file(flatten(model, optimiser), path)
                self.checkpoints.upload(self.fold, step, path)
            log.info("checkpoint_written", fold=self.fold, step=step)
        except (StoreError, OSError) as error:
            log.warning("checkpoint_not_written", fold=self.fold, step=step, error=str(error))
        self._last = time.monotonic()

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Restore model, optimiser and random state; return the step to resume at, 0 without a checkpoint."""
        from safetensors.torch import load_file

        from services.trainer.methods.training_state import fits, unflatten

        state = self.checkpoints.state
        if state.current != self.fold or state.key is None:
            return 0
        tensors = load_file(self.checkpoints.store.local(state.key))
        if not fits(tensors, model):
            log.info("checkpoint_outdated", reason="it is of a release that trained the whole vocabulary")
            return 0
        unflatten(tensors, model, optimiser)
        return state.step


@dataclass(frozen=True, slots=True)
class _Agreed:
    """What rank 0 broadcasts about the next method."""

    plan: Plan | None
    instead: str
    """Why there is no plan."""
    state: State
    resumed_from: str | None
    format: int = FORMAT


def agree_on_plan(
    run: Run, checkpoints: Checkpoints, fingerprint: str, make: Callable[[], Plan | str]
) -> Plan | str:
    """Return the checkpoint's plan, or else a new one, or why there is none; other ranks take over rank 0's."""
    if not run.group.leads:
        data = run.group.broadcast(b"", run.stop)
        agreed = documents.load(_Agreed, data, "the plan of rank 0")
        checkpoints.state, checkpoints.resumed_from = agreed.state, agreed.resumed_from
        return agreed.plan or agreed.instead
    plan = checkpoints.resume(fingerprint) or make()
    if isinstance(plan, Plan):
        checkpoints.begin(fingerprint, plan)
    made, instead = (plan, "") if isinstance(plan, Plan) else (None, plan)
    agreed = _Agreed(made, instead, checkpoints.state, checkpoints.resumed_from)
    run.group.broadcast(documents.dump(agreed), run.stop)
    return plan
