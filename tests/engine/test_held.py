"""engine.held: of each project two versions stay, and of all the most recently used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from services.engine.held import Models, Name
from services.engine.model import Model


class _Closable:
    """What `Models` does to a model: close it."""

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def models() -> Callable[[int], Models]:
    return lambda limit: Models(lambda _: cast("Any", _Closable()), limit)


def _ask(models: Models, *names: Name) -> list[Name]:
    for name in names:
        held = models.use(name)
        held.loaded.result(10)
        held.release()
    return [name for name in dict.fromkeys(names) if models.get(name) is not None]


def test_of_one_project_only_the_two_newest_versions_stay(models: Callable[[int], Models]) -> None:
    found = models(8)
    names = [("5-1", f"v-{number}") for number in range(5)]
    assert _ask(found, *names, ("6-1", "w-1")) == [names[3], names[4], ("6-1", "w-1")]
    found.close()


def test_of_many_projects_the_least_recently_used_leave(models: Callable[[int], Models]) -> None:
    found = models(3)
    names = [(f"{number}-1", "v-1") for number in range(4)]
    assert _ask(found, *names[:3], names[0], names[3]) == [names[0], names[2], names[3]]
    found.close()


def test_a_model_is_what_was_loaded(models: Callable[[int], Models]) -> None:
    found = models(2)
    assert found.get(("5-1", "v-1")) is None
    held = found.use(("5-1", "v-1"))
    loaded: Model = held.loaded.result(10)
    assert found.get(("5-1", "v-1")) is loaded
    held.release()
    found.close()
