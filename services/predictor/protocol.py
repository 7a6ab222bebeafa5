"""KServe's protocols v1 and v2 (open inference) as this predictor speaks them: bodies in, texts out; scores in, bodies out.

A model is called `p<project key>`; the version stands in `parameters.version`, and the answer repeats it. In v2 the
request may ask for binary outputs (`binary_data_output`): probabilities then follow the JSON as little-endian float32, as
the protocol's binary extension has it, because a thousand rows of figures are slow as JSON. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from services.core.errors import BadRequest
from services.engine.compute import Scores

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
MODEL_PREFIX: Final = "p"


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request for scores."""

    texts: tuple[str, ...]
    version: str | None = None
    id: str = ""
    binary: bool = False


def project_key_of(model: str) -> str | None:
    """The project's key by a model's name; None for another name."""
    return model.removeprefix(MODEL_PREFIX) if model.startswith(MODEL_PREFIX) and len(model) > 1 else None


def parse_v2(body: bytes) -> ScoreRequest:
    """Of POST /v2/models/<name>/infer. Raises BadRequest."""
    said = _object(body)
    inputs = said.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadRequest('The body needs "inputs": one tensor of texts (datatype BYTES).')
    if inputs[0].get("datatype") != "BYTES":
        raise BadRequest(f"datatype is {str(inputs[0].get('datatype'))[:40]!r}, and texts are BYTES.")
    parameters = _parameters(said)
    texts = _texts(_flat(inputs[0].get("data")))
    _check_shape(inputs[0].get("shape"), len(texts))
    name = said.get("id")
    return ScoreRequest(
        texts,
        _version(parameters),
        name if isinstance(name, str) else "",
        bool(parameters.get("binary_data_output")),
    )


def parse_v1(body: bytes) -> ScoreRequest:
    """Of POST /v1/models/<name>:predict: instances are texts, or objects with a `text`. Raises BadRequest."""
    said = _object(body)
    instances = said.get("instances")
    if not isinstance(instances, list):
        raise BadRequest('The body needs "instances": a list of texts.')
    plain = [one.get("text") if isinstance(one, dict) else one for one in instances]
    return ScoreRequest(_texts(plain), _version(_parameters(said)))


def answer_v2(model: str, version: str, asked: ScoreRequest, scores: Scores) -> tuple[bytes, dict[str, str]]:
    """The body and its headers."""
    rows = np.ascontiguousarray(scores.probabilities, dtype="<f4")
    shape = [len(asked.texts), len(scores.labels)]
    figures: dict[str, Any] = {"name": "probabilities", "datatype": "FP32", "shape": shape}
    labels = {
        "name": "labels",
        "datatype": "BYTES",
        "shape": [len(scores.labels)],
        "data": list(scores.labels),
    }
    tail = rows.tobytes() if asked.binary else b""
    figures |= {"parameters": {"binary_data_size": len(tail)}} if asked.binary else {"data": rows.ravel()}
    said = {
        "id": asked.id,
        "model_name": model,
        "model_version": version,
        "parameters": {"version": version},
        "outputs": [figures, labels],
    }
    head = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
    if not asked.binary:
        return head, {"Content-Type": "application/json"}
    return head + tail, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def answer_v1(version: str, asked: ScoreRequest, scores: Scores) -> bytes:
    """For each text its label, the label's probability, and the score that Label Studio sorts by."""
    predictions = [
        {"label": label, "probability": probability, "score": score}
        for label, probability, score in (scores.best(row) for row in range(len(asked.texts)))
    ]
    return orjson.dumps({"predictions": predictions, "version": version})


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is no JSON: {error}.") from error
    if not isinstance(said, dict):
        raise BadRequest("The body must be a JSON object.")
    return said


def _parameters(said: dict[str, Any]) -> dict[str, Any]:
    parameters = said.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest('"parameters" must be an object.')
    return parameters


def _version(parameters: dict[str, Any]) -> str | None:
    version = parameters.get("version")
    if version is not None and not isinstance(version, str):
        raise BadRequest('"parameters.version" must be the name of a version.')
    return version or None


def _check_shape(shape: object, texts: int) -> None:
    """[n] or [n, 1], where it is given."""
    if shape is not None and shape not in ([texts], [texts, 1]):
        raise BadRequest(
            f"There are {texts} texts, and the tensor's shape is {str(shape)[:40]}: write [{texts}]."
        )


def _flat(data: object) -> object:
    """A tensor of shape [n, 1] is as good as one of [n]."""
    if isinstance(data, list) and all(isinstance(row, list) and len(row) == 1 for row in data):
        return [row[0] for row in data]
    return data


def _texts(data: object) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise BadRequest("Each text must be a string: write the texts as a list of strings.")
    return tuple(data)
