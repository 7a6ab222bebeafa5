"""core.arrays: what is read is what was written, or an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.arrays import UnreadableArrays, dump, parse

EXPECTED = {"task": "i8", "key": "u1"}
ARRAYS = {"task": np.arange(5), "key": np.ones((5, 16), np.uint8)}


def test_arrays_and_strings_survive() -> None:
    found, strings = parse(dump(ARRAYS, {"cursor": "2026-11-29T10:00:00Z"}), "pool", EXPECTED)
    assert strings == {"cursor": "2026-11-29T10:00:00Z"}
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }


@given(st.data())
def test_changed_or_truncated_bytes_are_refused(data: st.DataObject) -> None:
    whole = dump(ARRAYS)
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(flipped), whole[:place]):
        with pytest.raises(UnreadableArrays, match="^pool cannot be read: "):
            parse(damaged, "pool", EXPECTED)


@pytest.mark.parametrize("arrays", [{"task": np.arange(5)}, {**ARRAYS, "task": np.ones(5, np.float32)}])
def test_other_arrays_are_refused(arrays: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(UnreadableArrays):
        parse(dump(arrays), "pool", EXPECTED)


def test_arrays_of_a_later_release_are_ignored() -> None:
    found, _ = parse(dump({**ARRAYS, "more": np.zeros(3)}), "pool", EXPECTED)
    assert sorted(found) == ["key", "task"]
