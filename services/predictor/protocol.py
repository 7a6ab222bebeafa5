"""Parse requests and render answers of KServe's protocols v1 and v2 (open inference). Pure functions.

A model is named `p<project key>`; `parameters.version` names the version, and the answer repeats it. A v2 request may ask
for binary output (`binary_data_output`): probabilities then follow the JSON as little-endian float32, by the protocol's
binary extension, because a thousand rows of numbers are slow as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from services.core.errors import BadRequest
from services.engine.compute import Scores
from services.mlbackend.calls import PredictCall, TaskPredictions

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
MODEL_PREFIX: Final = "p"
THRESHOLDS: Final = "thresholds"
"""A third tensor of the answer where a text may have several labels: the probability from which on each is chosen."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A parsed scoring request."""

    texts: tuple[str, ...]
    version: str | None = None
    id: str = ""
    binary: bool = False


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A parsed request for predictions of tasks."""

    call: PredictCall
    version: str | None = None


def project_key_of(model: str) -> str | None:
    """Return the project key in a model's name; None for any other name."""
    return model.removeprefix(MODEL_PREFIX) if model.startswith(MODEL_PREFIX) and len(model) > 1 else None


def parse_v2(body: bytes) -> ScoreRequest:
    """Parse the body of POST /v2/models/<name>/infer. Raises BadRequest."""
    request = _object(body)
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadRequest('The body needs "inputs": one tensor of texts (datatype BYTES).')
    if inputs[0].get("datatype") != "BYTES":
        raise BadRequest(f"datatype is {str(inputs[0].get('datatype'))[:40]!r}, but texts are BYTES.")
    parameters = _parameters(request)
    texts = _texts(_flat(inputs[0].get("data")))
    _check_shape(inputs[0].get("shape"), len(texts))
    name = request.get("id")
    return ScoreRequest(
        texts,
        _version(parameters),
        name if isinstance(name, str) else "",
        bool(parameters.get("binary_data_output")),
    )


def parse_v1(body: bytes) -> ScoreRequest:
    """Parse the body of POST /v1/models/<name>:predict: texts, or objects with a `text`. Raises BadRequest."""
    request = _object(body)
    instances = request.get("instances")
    if not isinstance(instances, list):
        raise BadRequest('The body needs "instances": a list of texts.')
    plain = [one.get("text") if isinstance(one, dict) else one for one in instances]
    return ScoreRequest(_texts(plain), _version(_parameters(request)))


def answer_v2(
    model: str, version: str, request: ScoreRequest, scores: Scores
) -> tuple[bytes, dict[str, str]]:
    """Return the body and its headers."""
    rows = np.ascontiguousarray(scores.probabilities, dtype="<f4")
    shape = [len(request.texts), len(scores.labels)]
    probabilities: dict[str, Any] = {"name": "probabilities", "datatype": "FP32", "shape": shape}
    labels = {
        "name": "labels",
        "datatype": "BYTES",
        "shape": [len(scores.labels)],
        "data": list(scores.labels),
    }
    tail = rows.tobytes() if request.binary else b""
    probabilities |= (
        {"parameters": {"binary_data_size": len(tail)}} if request.binary else {"data": rows.ravel()}
    )
    outputs = [probabilities, labels]
    if scores.thresholds is not None:
        data = np.ascontiguousarray(scores.thresholds, dtype="<f4")
        outputs.append({"name": THRESHOLDS, "datatype": "FP32", "shape": [len(data)], "data": data})
    answer = {
        "id": request.id,
        "model_name": model,
        "model_version": version,
        "parameters": {"version": version},
        "outputs": outputs,
    }
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not request.binary:
        return head, {"Content-Type": "application/json"}
    return head + tail, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def answer_v1(version: str, request: ScoreRequest, scores: Scores) -> bytes:
    """Return for each text its label, the label's probability, and the score that Label Studio sorts by.

    Where a text may have several labels: `labels`, and their mean probability.
    """
    predictions = [
        {
            **({"label": labels[0]} if scores.thresholds is None else {"labels": labels}),
            "probability": probability,
            "score": score,
        }
        for labels, probability, score in (scores.chosen(row) for row in range(len(request.texts)))
    ]
    return orjson.dumps({"predictions": predictions, "version": version})


def parse_tasks(body: bytes) -> TaskRequest:
    """Parse the body of POST /v2/models/<name>/tasks: `tasks` as Label Studio sends them, `context`, `params`, `label_config`.

    Raises BadRequest.
    """
    request = _object(body)
    tasks = request.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise BadRequest('The body needs "tasks": a list of Label Studio tasks.')
    context, params, config = request.get("context"), request.get("params"), request.get("label_config")
    call = PredictCall(
        tasks,
        context if isinstance(context, dict) else None,
        params if isinstance(params, dict) else {},
        config if isinstance(config, str) else None,
    )
    return TaskRequest(call, _version(_parameters(request)))


def answer_tasks(version: str, predictions: list[TaskPredictions]) -> bytes:
    """Return each task's predictions as Label Studio reads them, and the version that they are of."""
    return orjson.dumps({"predictions": predictions, "parameters": {"version": version}})


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object.")
    return document


def _parameters(request: dict[str, Any]) -> dict[str, Any]:
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest('"parameters" must be an object.')
    return parameters


def _version(parameters: dict[str, Any]) -> str | None:
    version = parameters.get("version")
    if version is not None and not isinstance(version, str):
        raise BadRequest('"parameters.version" must be the name of a version.')
    return version or None


def _check_shape(shape: object, texts: int) -> None:
    """Raise BadRequest unless the shape, if given, is [n] or [n, 1]."""
    if shape is not None and shape not in ([texts], [texts, 1]):
        raise BadRequest(
            f"There are {texts} texts, but the tensor's shape is {str(shape)[:40]}: write [{texts}]."
        )


def _flat(data: object) -> object:
    """Flatten a tensor of shape [n, 1]."""
    if isinstance(data, list) and all(isinstance(row, list) and len(row) == 1 for row in data):
        return [row[0] for row in data]
    return data


def _texts(data: object) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise BadRequest("Each text must be a string: write the texts as a list of strings.")
    return tuple(data)
