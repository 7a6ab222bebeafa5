"""Messages about texts that were read only in part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.domain import Truncation
from services.core.labels.uncounted import required_length, truncation_message

CUT = Truncation(texts=24, cut=24, longest=610, max_length=256, most=512, cost=1.98)


def test_without_truncation_there_is_no_message() -> None:
    assert truncation_message(None) == ""
    assert truncation_message(replace(CUT, cut=0)) == ""


def test_truncation_is_reported_with_its_cost() -> None:
    assert truncation_message(CUT) == (
        "24 of 24 texts were truncated at 256 tokens, and the rest is not read; the longest has 610. "
        "FITLOOP_MAX_LENGTH=512 would read as much as the base model can, at about 2.0 times the compute, in training "
        "and for suggestions."
    )


@pytest.mark.parametrize(
    ("changed", "length", "expected"),
    [
        ({"most": 1024}, 640, "FITLOOP_MAX_LENGTH=640 would read all of it"),
        ({"most": 0, "longest": 300}, 320, "FITLOOP_MAX_LENGTH=320 would read all of it"),
        ({"most": 256}, 256, "the base model cannot read more: set BASELINE_MODEL_NAME"),
        ({"most": 0, "longest": 9000, "max_length": 8192}, 8192, "FITLOOP_MAX_LENGTH cannot be higher"),
        ({"texts": 1, "cut": 1}, 512, "1 of 1 text was truncated"),
    ],
)
def test_what_to_set_depends_on_what_the_base_model_reads(
    changed: dict[str, int], length: int, expected: str
) -> None:
    found = replace(CUT, **changed)
    assert required_length(found) == length
    assert expected in truncation_message(found)
