"""What the processes of a run must have in common before they train: labels, features, and rank 0's plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from services.core import documents
from services.core.documents import FORMAT
from services.core.domain import Method
from services.trainer.methods.checkpoints import Checkpoints, State
from services.trainer.methods.plan import Plan
from services.trainer.process import Run, RunInputs

if TYPE_CHECKING:
    from services.trainer.data.features import Features


@dataclass(frozen=True, slots=True)
class Agreed:
    """What rank 0 tells the others of the next method."""

    plan: Plan | None
    instead: str
    """Why there is no plan."""
    state: State
    resumed_from: str | None
    format: int = FORMAT


def fingerprint_of(method: Method, origin: RunInputs, run: Run) -> str:
    """Changes with all that the weights of a method depend on."""
    dataset = origin.dataset
    parameters = documents.to_plain(replace(run.request.parameters, model_name=None))
    examples = [(example.key, example.label) for example in dataset.examples]
    everything = [method, origin.base.digest, parameters, dataset.labels, examples]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def check_same_start(run: Run, origin: RunInputs, published: int) -> None:
    """Raises Preempted where another process has read other labels, or loaded another base model."""
    mine = f"{fingerprint_of(run.request.parameters.method, origin, run)} {published}"
    run.group.check_same(mine.encode(), "labels and base model", run.stop)


def features_for(run: Run, origin: RunInputs) -> Features:
    """Rank 0 computes them, and the others get them: to the last bit the same everywhere."""
    from services.engine.tokenise import encode
    from services.trainer.data.features import Features, compute_features

    texts = origin.dataset.texts
    if run.group.leads:
        features = compute_features(origin.base, texts, run.progress, run.stop)
        run.group.broadcast(features.X.tobytes() if run.group.size > 1 else b"", run.stop)
        return features
    ids = encode(origin.base.tokenizer, texts)
    X = np.frombuffer(run.group.broadcast(b"", run.stop), np.float32).reshape(len(texts), -1).copy()
    return Features(ids, X, seconds_per_token=0.0)


def agreed_plan(
    run: Run, checkpoints: Checkpoints, fingerprint: str, make: Callable[[], Plan | str]
) -> Plan | str:
    """The plan of the checkpoint, or else a new one, or why there is none; the others take over rank 0's."""
    if not run.group.leads:
        data = run.group.broadcast(b"", run.stop)
        agreed = documents.load(Agreed, data, "the plan of rank 0")
        checkpoints.state, checkpoints.resumed_from = agreed.state, agreed.resumed_from
        return agreed.plan or agreed.instead
    plan = checkpoints.resume(fingerprint) or make()
    if isinstance(plan, Plan):
        checkpoints.begin(fingerprint, plan)
    made, instead = (plan, "") if isinstance(plan, Plan) else (None, plan)
    agreed = Agreed(made, instead, checkpoints.state, checkpoints.resumed_from)
    run.group.broadcast(documents.dump(agreed), run.stop)
    return plan
