"""evaluation.report: metrics in JSON, without a text of a task."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.core import documents
from services.core.domain import OutOfSample, Report, Uncounted
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.gate import pair_up
from services.trainer.evaluation.metrics import estimate
from services.trainer.evaluation.report import (
    MAX_CHANGED,
    MAX_MATRIX,
    MAX_NAMES,
    MAX_THIRD_OPINIONS,
    build_report,
    changed_texts,
    report_bytes,
)
from services.trainer.evaluation.report_rows import MAX_ERRORS
from tests.trainer.evaluation.datasets import SECRET, dataset_of


def report_of(dataset: Dataset, rows: list[int], probabilities: list[list[float]]) -> dict[str, Any]:
    judged: NDArray[np.int64] = np.array(rows, np.int64)
    answers = np.array(probabilities, np.float32).reshape(-1, len(dataset.labels))
    found = estimate(answers, dataset.targets[judged], "cross-fit", np.zeros(len(rows), np.bool_))
    report: dict[str, Any] = json.loads(
        json.dumps(build_report(dataset, judged, answers, found, 1.5), allow_nan=False)
    )
    return report


def test_report_counts_evaluated_texts() -> None:
    report = report_of(dataset_of(["A", "A", "B", "B"]), [0, 1, 2], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    assert (report["format"], report["texts"], report["temperature"]) == (1, 4, 1.5)
    assert report["labels"] == ["A", "B"]
    assert report["confusion"] == [[1, 1], [0, 1]]
    assert report["dropped"] == {"cancelled": 2, "foreign_label": 1}
    assert report["not_counted"][1] == {"reason": "foreign_label", "count": 1, "examples": ['"gone"']}
    assert (report["third_opinion"], report["third_opinions"]) == ([5, 6], 2)
    assert report["estimate"]["right"] == 2
    assert report["estimate"]["in_words"] == "too few labels to tell"
    assert report["expected_calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2) / 3, abs=1e-4)


def test_labels_under_five_texts_get_a_note() -> None:
    dataset = dataset_of(["A"] * 5 + ["B"] * 4)
    report = report_of(dataset, list(range(9)), [[0.9, 0.1]] * 5 + [[0.3, 0.7]] * 4)
    few, enough = report["per_label"][1], report["per_label"][0]
    assert few == {
        "label": "B", "examples": 4, "judged": 4, "precision": 1.0, "recall": 1.0, "f1": 1.0, "note": "too few to judge"
    }  # fmt: skip
    assert (enough["judged"], enough["note"]) == (5, "")


def test_unevaluated_labels_have_no_metrics() -> None:
    row = report_of(dataset_of(["A", "B"]), [0], [[0.9, 0.1]])["per_label"][1]
    assert (row["examples"], row["judged"], row["precision"], row["recall"], row["f1"]) == (
        1,
        0,
        None,
        None,
        None,
    )


def test_reliability_covers_every_text() -> None:
    steps = report_of(dataset_of(["A", "B", "B"]), [0, 1, 2], [[0.9, 0.1], [0.45, 0.55], [1.0, 0.0]])[
        "reliability"
    ]
    assert len(steps) == 15
    assert (steps[0]["from"], steps[-1]["to"]) == (0.0, 1.0)
    assert sum(step["texts"] for step in steps) == 3
    assert (steps[-1]["probability"], steps[-1]["right"]) == (1.0, 0.0)
    assert (steps[0]["probability"], steps[0]["right"]) == (None, None)


def test_errors_are_listed_the_most_confident_first() -> None:
    report = report_of(dataset_of(["A", "A", "B"]), [0, 1, 2], [[0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
    assert report["wrong"] == [
        {"task_id": 101, "true": "A", "predicted": "B", "probability": 0.9},
        {"task_id": 100, "true": "A", "predicted": "B", "probability": 0.6},
    ]


def test_at_most_fifty_errors_are_listed() -> None:
    assert (
        len(report_of(dataset_of(["A"] * 60 + ["B"]), list(range(60)), [[0.1, 0.9]] * 60)["wrong"])
        == MAX_ERRORS
    )


def test_a_report_holds_no_text() -> None:
    assert SECRET not in json.dumps(report_of(dataset_of(["A", "B"]), [0, 1], [[0.1, 0.9], [0.9, 0.1]]))


def test_report_without_evaluated_texts() -> None:
    report = report_of(dataset_of(["A", "B"]), [], [])
    assert report["wrong"] == []
    assert report["confusion"] == [[0, 0], [0, 0]]


def answers_of(dataset: Dataset, expected: list[str]) -> OutOfSample:
    rows = zip(dataset.keys, expected, strict=True)
    probabilities = {key: tuple(float(label == name) for name in dataset.labels) for key, label in rows}
    return OutOfSample(dataset.labels, "cross-fit", probabilities)


def changed_of(dataset: Dataset, before: list[str], now: list[str]) -> dict[str, Any]:
    truth = {example.key: example.label for example in dataset.examples}
    pairs = pair_up(answers_of(dataset, now), answers_of(dataset, before), truth, None)
    found = changed_texts(dataset, "v-1", pairs)
    assert found is not None
    return dict(found)


def test_fixed_and_broken_texts_are_listed_by_task() -> None:
    found = changed_of(dataset_of(["A", "A", "B", "B"]), ["B", "A", "A", "B"], ["A", "B", "A", "B"])
    assert found == {
        "compared_with": "v-1",
        "texts": 4,
        "fixed": [{"task_id": 100, "true": "A", "before": "B", "now": "A"}],
        "broken": [{"task_id": 101, "true": "A", "before": "A", "now": "B"}],
    }


def test_at_most_200_changed_texts_are_listed() -> None:
    many = MAX_CHANGED + 50
    found = changed_of(dataset_of(["A"] * many + ["B"]), ["B"] * (many + 1), ["A"] * (many + 1))
    assert [row["task_id"] for row in found["fixed"]] == list(range(100, 100 + MAX_CHANGED))


def test_no_changed_texts_without_a_comparison() -> None:
    assert changed_texts(dataset_of(["A", "B"]), None, None) is None


def test_report_round_trip() -> None:
    dataset = dataset_of(["A", "A", "B"])
    written = report_of(dataset, [0, 1, 2], [[0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
    written["changed"] = changed_of(dataset, ["B", "A", "B"], ["B", "B", "B"])
    found = documents.load(Report, json.dumps(written).encode(), "report.json")
    assert found.confusion == ((0, 2), (0, 1))
    assert found.per_label[0].note == "too few to judge"
    assert found.wrong[0].task_id == 101
    assert found.dropped == {"cancelled": 2, "foreign_label": 1}
    assert found.not_counted == (Uncounted("cancelled", 2), Uncounted("foreign_label", 1, ('"gone"',)))
    assert found.changed is not None
    assert [one.task_id for one in found.changed.broken] == [101]


def test_reads_a_report_of_an_earlier_release() -> None:
    written = report_of(dataset_of(["A", "B"]), [0], [[0.9, 0.1]])
    assert "changed" not in written
    assert documents.load(Report, json.dumps(written).encode(), "report.json").changed is None


def test_a_report_reads_back_with_every_section() -> None:
    written = report_of(dataset_of(["A", "A", "B"]), [0, 1, 2], [[0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
    found = documents.load(Report, report_bytes(written), "report.json")
    assert [(one.true, one.predicted, one.texts, one.tasks) for one in found.confusions] == [
        (0, 1, 2, (101, 100))
    ]
    assert found.expected_calibration_error == written["expected_calibration_error"]
    assert (found.temperature, sum(one.texts for one in found.reliability)) == (1.5, 3)
    assert found.disagreement is not None


def test_a_report_of_many_labels_and_texts_is_bounded() -> None:
    """500 labels of 1,000 Chinese characters, 100,000 texts, every answer wrong."""
    names = tuple(f"{number:04d}{'字' * 996}" for number in range(500))
    rng, rows = np.random.default_rng(0), np.arange(100_000)
    dataset = dataset_of([names[label] for label in rng.integers(0, 500, 100_000)], names)
    dataset = replace(dataset, third_opinion=tuple(range(100_000)))
    predicted = (dataset.targets + 1 + rng.integers(0, 499, 100_000)) % 500
    answers = np.zeros((100_000, 500), np.float16)
    answers[rows, predicted] = 0.9
    found = estimate(answers, dataset.targets, "cross-fit", None)
    report = build_report(dataset, rows, answers, found, 1.0)
    written = report_bytes(report)
    names_alone = 2 * len("".join(names).encode())
    assert len(written) < 700_000 + names_alone + 3 * MAX_NAMES
    assert len(report["third_opinion"]) == MAX_THIRD_OPINIONS  # type: ignore[arg-type]
    assert report["third_opinions"] == 100_000


def test_a_matrix_of_very_many_labels_is_left_out() -> None:
    names = tuple(map(str, range(MAX_MATRIX + 1)))
    report = report_of(dataset_of(["0", "1"], names), [0], [[0.0, 1.0] + [0.0] * (len(names) - 2)])
    assert report["confusion"] == []
    assert report["confusions"] == [{"true": 0, "predicted": 1, "texts": 1, "tasks": [100]}]
