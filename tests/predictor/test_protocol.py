"""KServe's v1 and v2 bodies: what is parsed, what is answered, and an error for everything else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import BadRequest
from services.engine.compute import Scores
from services.predictor.protocol import (
    HEADER_LENGTH,
    ScoreRequest,
    answer_v1,
    answer_v2,
    parse_v1,
    parse_v2,
    project_key_of,
)

SCORES = Scores(("A", "B"), np.array([[0.75, 0.25], [0.5, 0.5]], np.float32))


def build_v2(data: Any, **others: Any) -> bytes:
    tensor = {"name": "text", "datatype": "BYTES", "data": data} | others.pop("tensor", {})
    return json.dumps({"inputs": [tensor], **others}).encode()


def test_model_name_is_the_project_key() -> None:
    assert project_key_of("p5-1795473352") == "5-1795473352"
    assert [project_key_of(name) for name in ("p", "", "5-1")] == [None, None, None]


def test_parse_v2() -> None:
    assert parse_v2(build_v2(["a", "b"])) == ScoreRequest(("a", "b"))
    assert parse_v2(build_v2(["a", "b"], tensor={"shape": [2]}, id="7")).id == "7"
    assert parse_v2(build_v2([["a"], ["b"]], tensor={"shape": [2, 1]})).texts == ("a", "b")
    assert parse_v2(build_v2([], parameters={"version": "v-1", "binary_data_output": True})) == ScoreRequest(
        (), "v-1", "", True
    )


def test_parse_v1() -> None:
    assert parse_v1(b'{"instances": ["a", {"text": "b"}]}').texts == ("a", "b")
    assert parse_v1(b'{"instances": [], "parameters": {"version": "v-1"}}') == ScoreRequest((), "v-1")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", 'needs "inputs"'),
        (b'{"inputs": [1]}', 'needs "inputs"'),
        (build_v2(["a"], tensor={"datatype": "FP32"}), "texts are BYTES"),
        (build_v2(["a"], tensor={"shape": [2]}), r"write \[1\]"),
        (build_v2("a"), "must be a string"),
        (build_v2([1]), "must be a string"),
        (build_v2(None), "must be a string"),
        (build_v2(["a"], parameters=[1]), "must be an object"),
        (build_v2(["a"], parameters={"version": 1}), "name of a version"),
    ],
)
def test_invalid_v2_request_is_a_bad_request(body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        parse_v2(body)


@pytest.mark.parametrize("body", [b"{}", b'{"instances": 1}', b'{"instances": [1]}', b'{"instances": [{}]}'])
def test_invalid_v1_request_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest, match="text"):
        parse_v1(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["inputs", "data", "datatype", "x"]), inner)
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_body_is_parsed_or_refused(value: Any) -> None:
    for parse in (parse_v1, parse_v2):
        for body in (
            json.dumps(value).encode(),
            build_v2(value),
            build_v2(value, parameters=value, id=value),
        ):
            with contextlib.suppress(BadRequest):
                assert all(isinstance(text, str) for text in parse(body).texts)


def test_v2_answer_names_version_and_id() -> None:
    body, headers = answer_v2("p5", "v-1", ScoreRequest(("a", "b"), "v-1", "7"), SCORES)
    answer = json.loads(body)
    assert headers == {"Content-Type": "application/json"}
    assert (answer["id"], answer["model_name"], answer["parameters"]) == ("7", "p5", {"version": "v-1"})
    probabilities, labels = answer["outputs"]
    assert (probabilities["datatype"], probabilities["shape"], probabilities["data"]) == (
        "FP32",
        [2, 2],
        [0.75, 0.25, 0.5, 0.5],
    )
    assert (labels["datatype"], labels["shape"], labels["data"]) == ("BYTES", [2], ["A", "B"])


def test_v2_binary_output_follows_the_json() -> None:
    body, headers = answer_v2("p5", "v-1", ScoreRequest(("a", "b"), "v-1", "", True), SCORES)
    length = int(headers[HEADER_LENGTH])
    probabilities = json.loads(body[:length])["outputs"][0]
    assert probabilities["parameters"] == {"binary_data_size": len(body) - length}
    assert "data" not in probabilities
    np.testing.assert_array_equal(
        np.frombuffer(body, "<f4", offset=length).reshape(2, 2), SCORES.probabilities
    )


def test_v1_answer_has_label_probability_and_score() -> None:
    answer = json.loads(answer_v1("v-1", ScoreRequest(("a", "b")), SCORES))
    assert answer["version"] == "v-1"
    assert answer["predictions"][0] == {"label": "A", "probability": 0.75, "score": 0.75}


SEVERAL = Scores(
    SCORES.labels, np.array([[0.75, 0.5], [0.1, 0.1]], np.float32), np.array([0.5, 0.25], np.float32)
)


def test_thresholds_are_answered_where_a_text_may_have_several_labels() -> None:
    request = ScoreRequest(("a", "b"), "v")
    body, _ = answer_v2("p5", "v", request, SEVERAL)
    *_, last = json.loads(body)["outputs"]
    assert last == {"name": "thresholds", "datatype": "FP32", "shape": [2], "data": [0.5, 0.25]}
    assert len(json.loads(answer_v2("p5", "v", request, SCORES)[0])["outputs"]) == 2


def test_v1_answers_several_labels() -> None:
    first, second = json.loads(answer_v1("v", ScoreRequest(("a", "b")), SEVERAL))["predictions"]
    assert (first["labels"], second["labels"]) == (["A", "B"], [])
    assert (first["probability"], second["probability"]) == (0.625, 0)
    assert 0 < first["score"] < second["score"] < 1
