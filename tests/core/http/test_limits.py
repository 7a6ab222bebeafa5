"""What requests hold at once has a bound, and is given back; the bound fits the memory of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import Overloaded
from services.core.http.limits import BodyTooLarge, Budget, Reservation, memory_limit

MB = 1 << 20


def test_requests_share_the_budget() -> None:
    budget = Budget(10 * MB)
    one, other = Reservation(budget), Reservation(budget)
    one.reserve(8 * MB)
    with pytest.raises(Overloaded, match=r"^Requests of 8 MB are being answered, and no more than 10 MB fit"):
        other.reserve(3 * MB)
    one.release(8 * MB)
    other.reserve(3 * MB)
    assert (one.size, other.size, budget.used) == (0, 3 * MB, 3 * MB)


def test_what_never_fits_is_too_large() -> None:
    with pytest.raises(BodyTooLarge, match=r"^This request needs more than 10 MB, which is all that fits"):
        Reservation(Budget(10 * MB, used=MB)).reserve(11 * MB)


@pytest.mark.parametrize(
    ("name", "content", "limit"),
    [
        ("memory.max", "67108864\n", 64 * MB),
        ("memory/memory.limit_in_bytes", "67108864\n", 64 * MB),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("other", "", None),
    ],
)
def test_the_memory_is_the_control_groups_or_the_machines(
    tmp_path: Path, name: str, content: str, limit: int | None
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert memory_limit(tmp_path) == (limit or memory_limit(tmp_path / "nothing"))
