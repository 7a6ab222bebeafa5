"""Label Studio names a project in several ways."""

from __future__ import annotations

import pytest

from services.adapter.routes.identity import project_id


@pytest.mark.parametrize("value", [5, "5", "5.1795473352", 5.0, {"id": 5}, {"id": "5.17"}, " 5 "])
def test_the_id_is_what_stands_before_the_dot(value: object) -> None:
    assert project_id(value) == 5


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        "five",
        "-5",
        "٣",
        "9" * 5000,
        float("nan"),
        float("inf"),
        1e30,
        [],
        {},
        {"id": {"id": 5}},
    ],
)
def test_anything_else_is_no_id(value: object) -> None:
    assert project_id(value) is None
