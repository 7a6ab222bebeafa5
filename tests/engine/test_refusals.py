"""For how long an error is remembered."""

from __future__ import annotations

import pytest

from services.core.errors import CorruptVersion, FitloopError, Overloaded, StoreUnreachable
from services.engine.refusals import Refusals


@pytest.mark.parametrize(
    ("error", "seconds"), [(CorruptVersion("broken"), 60), (StoreUnreachable("away"), 2)]
)
def test_store_errors_expire_sooner(error: FitloopError, seconds: float) -> None:
    now = [0.0]
    refusals = Refusals[str](lambda: now[0])
    refusals.add("v-1", error)
    refusals.check("v-2")  # must not raise
    for moment in (0.0, seconds - 0.1):
        now[0] = moment
        with pytest.raises(type(error), match=str(error)) as raised:
            refusals.check("v-1")
        assert raised.value is not error, "it would keep the frames of each request"
    now[0] = seconds
    refusals.check("v-1")  # must not raise
    assert refusals.current() == {}


def test_overload_says_nothing_about_the_version() -> None:
    refusals = Refusals[str](lambda: 0.0)
    refusals.add("v-1", Overloaded("all in use"))
    assert refusals.current() == {}


def test_forgotten_refusal_allows_another_attempt() -> None:
    refusals = Refusals[str](lambda: 0.0)
    refusals.add("v-1", CorruptVersion("broken"))
    refusals.forget("v-1")
    refusals.check("v-1")  # must not raise
