"""Shared by all tests: property tests without a deadline, no secrets left behind, and which tests share a process.

`make test` runs three processes. Tests that share a server stay together and start first, because they take longest and
mostly wait; all others are spread one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from services.core.redaction import register_secrets

settings.register_profile("fitloop", deadline=None)
settings.load_profile("fitloop")


@pytest.fixture(autouse=True)
def _no_secrets() -> Iterator[None]:
    yield
    register_secrets(())


SHARED = ("labelstudio", "cluster")
"""Marks of tests that share a server: those of one mark run in one process, in order."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the tests that share a server, and put them first where several processes run."""
    for item in items:
        group = next((mark for mark in SHARED if item.get_closest_marker(mark)), None)
        if group and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(group))
    if config.getoption("dist", "no") == "loadgroup":
        items.sort(key=_start_order)


def _start_order(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    return SHARED.index(group.args[0]) if group and group.args[0] in SHARED else len(SHARED)
