"""A fine-tune that is preempted once it has a checkpoint, and resumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.core.domain import Method
from services.core.errors import Preempted
from services.trainer.process.lifecycle import Stop
from tests.support.trainer import FakeStop, TrainerWorld

CHECKPOINTS = "runs/{run}/checkpoints/"


def check_resumed_run(world: TrainerWorld, parameters: dict[str, Any]) -> None:
    """Train twice on the same labels, the second time with an interruption; the weights must be the same."""
    unbroken, broken = (world.request(Method.LP_FT, **parameters) for _ in range(2))
    world.train(unbroken)
    world.checkpoint_seconds = 0.0
    for looks in range(40, 400, 3):
        world.stop = FakeStop(looks)
        with pytest.raises(Preempted):
            world.train(broken)
        if world.store.folders(CHECKPOINTS.format(run=broken)):
            break
    world.stop = Stop()
    world.train(broken)
    assert world.manifest("support-2").lineage.resumed_from is not None
    one, other = world.weights("support-1"), world.weights("support-2")
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor, other[name], atol=5e-3, err_msg=name)
