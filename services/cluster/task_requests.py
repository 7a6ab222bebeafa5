"""Requests to the predictors for predictions of tasks, and their answers. Pure."""

from __future__ import annotations

import json

import httpx
import orjson

from services.core.errors import EngineError
from services.mlbackend.calls import PredictCall, TaskPredictions


def render_call(version: str, call: PredictCall) -> bytes:
    """Return the body of a request."""
    body = {
        "tasks": list(call.tasks),
        "context": call.context,
        "params": dict(call.params),
        "label_config": call.label_config,
        "parameters": {"version": version},
    }
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # a lone surrogate, or NaN
        return json.dumps(body).encode()


def parse_predictions(answer: httpx.Response, version: str, tasks: int) -> list[TaskPredictions]:
    """Return each task's predictions. Raises EngineError."""
    try:
        body = orjson.loads(answer.content)
        answered, found = body["parameters"]["version"], body["predictions"]
    except (KeyError, ValueError, TypeError) as error:
        raise EngineError(
            f"A predictor's answer cannot be read ({type(error).__name__}): is another server behind {answer.url.host}?"
        ) from error
    if answered != version:
        raise EngineError(f"A predictor answered with version {answered} to a request for {version}.")
    if not isinstance(found, list) or len(found) != tasks:
        raise EngineError(f"A predictor did not answer a list of predictions for each of {tasks} tasks.")
    return found
