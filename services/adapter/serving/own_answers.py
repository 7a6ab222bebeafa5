"""What a class of the operator's answers for tasks that a delivery pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.adapter.ports import Inference
from services.adapter.serving.label_studio import RefreshJob
from services.mlbackend.calls import PredictCall


async def ask_class(
    inference: Inference, job: RefreshJob, tasks: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the predictions to be pushed, each with its task's id. Raises Overloaded, EngineError, StoreError."""
    rest = {"annotations": [], "predictions": [], "project": job.project_id}  # as Label Studio sends them
    sent = [{"id": task["id"], "data": task["data"], **rest} for task in tasks]
    call = PredictCall(sent, label_config=job.own_model_config or None)
    answers = await inference.predict_tasks(job.project_key, job.version, call)
    pairs = zip(tasks, answers, strict=True)
    return [{"task": int(task["id"]), **one} for task, answer in pairs for one in answer]
