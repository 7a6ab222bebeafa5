"""Predictions are pushed in bulk; the rest one by one, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.adapter.serving.pushes import MAX_REFUSED_IN_A_ROW, push_predictions
from services.core.errors import LabelStudioUnreachable
from tests.support.labelstudio import FakeLabelStudio


def build_prediction(task: int, choice: object = "card") -> dict[str, Any]:
    region = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [choice]}}
    return {"task": task, "result": [region], "score": 0.5, "model_version": "support-1"}


def build_label_studio(tasks: int) -> FakeLabelStudio:
    found = FakeLabelStudio()
    found.add_project()
    for _ in range(tasks):
        found.add_task()
    return found


def stored(found: FakeLabelStudio) -> list[int]:
    return sorted(row["task"] for row in found.predictions)


def pushed(found: FakeLabelStudio, predictions: Sequence[dict[str, Any]]) -> int:
    return push_predictions(found, 1, "support-1", predictions, lambda: True)


def test_complete_bulk_import_needs_no_other_request() -> None:
    found = build_label_studio(2)
    assert pushed(found, [build_prediction(1), build_prediction(2)]) == 0
    assert found.reads == ["push"]


def test_no_predictions_need_no_request() -> None:
    found = build_label_studio(0)
    assert pushed(found, []) == 0
    assert found.reads == []


def test_only_missing_predictions_are_pushed_one_by_one() -> None:
    found = build_label_studio(4)
    given = [
        build_prediction(1),
        build_prediction(2, ["home", "hearth"]),
        build_prediction(3),
        build_prediction(4, ["home"]),
    ]
    assert pushed(found, given) == 0
    assert stored(found) == [1, 2, 3, 4]
    assert found.reads == ["push", "have prediction", "push one", "push one"]


def test_deleted_tasks_do_not_affect_the_others() -> None:
    found = build_label_studio(500)
    found.delete_task(2)
    found.delete_task(400)
    assert pushed(found, [build_prediction(number) for number in range(1, 501)]) == 0
    assert len(stored(found)) == 498
    assert found.reads == ["push", "have prediction", "push"]


def test_task_deleted_during_the_second_push_is_left_out() -> None:
    found = build_label_studio(4)
    found.delete_task(2)
    whole = found.have_prediction

    def deletes(*args: Any) -> dict[int, bool]:
        answer = whole(*args)
        found.tasks[1].pop(3, None)
        return answer

    found.have_prediction = deletes  # type: ignore[method-assign, assignment]
    assert pushed(found, [build_prediction(number) for number in range(1, 5)]) == 0
    assert stored(found) == [1, 4]


def test_nested_choices_beside_a_deleted_task_are_stored() -> None:
    found = build_label_studio(4)
    found.delete_task(1)
    assert pushed(found, [build_prediction(number, ["home"]) for number in range(1, 4)]) == 0
    assert stored(found) == [2, 3]


def test_all_tasks_deleted_is_no_refusal() -> None:
    found = build_label_studio(2)
    found.tasks[1].clear()
    assert pushed(found, [build_prediction(1), build_prediction(2)]) == 0
    assert found.reads == ["push", "have prediction"]


def test_stored_prediction_is_not_pushed_twice() -> None:
    found = build_label_studio(2)
    found.label(1, "card")
    pushed(found, [build_prediction(1), build_prediction(2, ["home"])])
    assert stored(found) == [1, 2]


def test_many_refusals_in_a_row_stop_the_push() -> None:
    found = build_label_studio(50)
    found.refused_tasks = set(range(1, 51))
    assert pushed(found, [build_prediction(number, ["home"]) for number in range(1, 51)]) == 50
    assert found.reads.count("push one") == MAX_REFUSED_IN_A_ROW


def test_few_refusals_do_not_stop_the_push() -> None:
    found = build_label_studio(50)
    found.refused_tasks = set(range(2, 51, 2))
    assert pushed(found, [build_prediction(number, ["home"]) for number in range(1, 51)]) == 25
    assert stored(found) == list(range(1, 51, 2))


def test_unwanted_push_stops_early() -> None:
    found = build_label_studio(3)
    goes_on = iter([True, False])
    assert (
        push_predictions(
            found,
            1,
            "support-1",
            [build_prediction(number, ["home"]) for number in (1, 2, 3)],
            lambda: next(goes_on),
        )
        == 0
    )
    assert stored(found) == [1]


def test_other_errors_are_raised() -> None:
    found = build_label_studio(1)
    found.down = LabelStudioUnreachable("down")
    with pytest.raises(LabelStudioUnreachable):
        pushed(found, [build_prediction(1)])
