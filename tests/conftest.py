"""Shared by all tests: property tests without a deadline, no secrets left behind, and which tests share a process.

`make test` runs three processes. Tests that share a server run in one of them, and start first, because they take longest
and mostly wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from services.core.redaction import register_secrets

settings.register_profile("fitloop", deadline=None)
settings.load_profile("fitloop")


@pytest.fixture(autouse=True)
def _no_secrets() -> Iterator[None]:
    yield
    register_secrets(())


SHARED = (
    ("label studio", re.compile(r"tests/e2e/test_(?!page)")),
    (
        "cluster",
        re.compile(
            r"tests/images/test_images|/test_on_a_cluster|/test_admission|contract/test_(launcher|lead)"
        ),
    ),
)
"""Files whose tests share a server."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that needs a server outside of the files that share it."""
    for item in items:
        if any(item.get_closest_marker(mark) for mark in ("labelstudio", "cluster")):
            assert _group(item.nodeid) != _file(item.nodeid), f"{item.nodeid} belongs to SHARED in {__file__}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep each file in one process, and all files that share a server; the largest groups start first.

    `--dist loadgroup` would do the same by marks, but with pytest 9.2 xdist 3.8 loses them.
    """
    from xdist.scheduler import LoadFileScheduling

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = _group
    return scheduler


def _group(nodeid: str) -> str:
    file = _file(nodeid)
    return next((group for group, files in SHARED if files.search(file)), file)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
