"""Annotations imported into a real Label Studio: which count, why others do not, and nested choices in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import LocalFitloop
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
PARCELS = [f"where is parcel {number}, it is late" for number in range(12)]
REFUNDS = [f"please give me the money back for order {number}" for number in range(12)]
NESTED = [["home", "hearth"], ["work", "desk"]]


def choices(names: str, more: str = "") -> str:
    return (
        f'<View><Text name="text" value="$text"/><Choices name="topic" toName="text"{more}>{names}</Choices>'
        '<Choices name="mood" toName="text"><Choice value="calm"/></Choices></View>'
    )


def imported(
    annotator: Annotator, backend: LocalFitloop, config: str, answers: list[tuple[str, Any, str]]
) -> int:
    """Create a project with a task for each (text, choice, control), without an annotation if the choice is None."""
    project = annotator.create_project("Imported", config)
    tasks = []
    for text, choice, control in answers:
        value = {"from_name": control, "to_name": "text", "type": "choices", "value": {"choices": [choice]}}
        made = {} if choice is None else {"annotations": [{"result": [value]}]}
        tasks.append({"data": {"text": text}, **made})
    annotator.call("POST", f"/api/projects/{project}/import", json=tasks)
    annotator.connect(project, backend.url)
    return project


def test_uncounted_imports_are_reported_with_reasons(start_fitloop: Start, annotator: Annotator) -> None:
    fitloop = start_fitloop()
    config = choices(
        '<Choice value="shipping"/><Choice value="Give back" alias="refund"/><Choice value="1"/>'
    )
    answers: list[tuple[str, Any, str]] = [
        *((text, "Shipping", "topic") for text in PARCELS),
        *((text, "Give back", "topic") for text in REFUNDS[:5]),
        *((text, "calm", "mood") for text in REFUNDS[5:8]),
        (REFUNDS[8], "nonsense", "topic"),
        (REFUNDS[9], 1, "topic"),
        (REFUNDS[10], 1.0, "topic"),
    ]
    project = imported(annotator, fitloop, config, answers)

    def read() -> dict[str, Any]:
        state = fitloop.state(project)
        return state if state.get("labelled") else {}

    found = eventually(read, what="labels are read")
    assert found["labelled"] == 2
    assert [(row["reason"], row["count"], row["examples"]) for row in found["not_counted"]] == [
        ("foreign_label", 1, ['"nonsense"']),
        ("other_spelling", 12, ['"Shipping" for "shipping"']),
        ("value_for_alias", 5, ['"Give back" for "refund"']),
        ("other_control", 3, ['"mood"']),
    ]
    assert found["not_counted_in_words"].startswith("21 annotations do not count: ")
    assert found["not_counted_in_words"].rstrip(".") in found["sentence"]
    page = httpx.get(f"{fitloop.url}/projects/{project}", headers={"Accept": "text/html"}, timeout=30).text
    assert "12 annotations with a label that" in page


def test_nested_choices_are_suggested_as_paths(start_fitloop: Start, annotator: Annotator) -> None:
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES="20")
    nested = '<Choice value="home"><Choice value="hearth"/></Choice><Choice value="work"><Choice value="desk"/></Choice>'
    answers = [
        *((text, NESTED[0], "topic") for text in PARCELS),
        *((text, NESTED[1], "topic") for text in REFUNDS),
        ("my parcel is late", None, ""),
        ("I want the money back", None, ""),
    ]
    project = imported(annotator, fitloop, choices(nested, ' allowNested="true"'), answers)
    version = fitloop.served(project)

    def stored() -> list[Any]:
        rows = annotator.call("GET", "/api/predictions/", params={"project": project})
        made = [row["result"][0]["value"]["choices"] for row in rows if row["model_version"] == version]
        return made if len(made) >= 2 else []

    assert eventually(stored, what="suggestions are stored") == [[NESTED[0]], [NESTED[1]]]
    assert fitloop.state(project)["problem"] == ""
