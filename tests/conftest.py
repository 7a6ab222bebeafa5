"""Settings for all tests: no deadlines for property tests, no state left behind, and which tests share a process.

`make test` runs four processes. Tests that share a server run in one of them, and start first, because they take longest
and mostly wait.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings

from services.core.redaction import register_secrets

settings.register_profile("fitloop", deadline=None)
settings.load_profile("fitloop")


@pytest.fixture(autouse=True)
def _process_state() -> Iterator[None]:
    """Leave neither secrets nor a configuration of logs to the next test of the process."""
    root, ours = logging.getLogger(), logging.getLogger("services")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    register_secrets(())
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


SHARED = (
    ("label studio 1", re.compile(r"tests/e2e/test_(blind|cluster|label_configs|suspects|texts|runbooks)")),
    (
        "label studio 2",
        re.compile(
            r"tests/e2e/test_"
            r"(cold_start|control_tags|controls|dashboards|doctor|imported|loop|own_models|own_serving|several_labels)"
        ),
    ),
    (
        "cluster",
        re.compile(
            r"tests/images/test_images|/test_on_a_cluster|/test_admission|contract/test_(launcher|lead)"
        ),
    ),
)
"""Files whose tests share a server, or two of them; about the same time each."""
LONG = re.compile(r"tests/(trainer|wire|cli)/")
"""Files that take long, so that none of them is left for the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that needs a server outside of the files that share it, and sort as workers of xdist are to start."""
    for item in items:
        if any(item.get_closest_marker(mark) for mark in ("labelstudio", "cluster")):
            assert _group(item.nodeid) != _file(item.nodeid), f"{item.nodeid} belongs to SHARED in {__file__}"
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _order(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep each file in one process, and all files that share a server.

    `--dist loadgroup` would do the same by marks, but with pytest 9.2 xdist 3.8 loses them.
    """
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the order is that of pytest_collection_modifyitems
    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = _group
    return scheduler


def _order(nodeid: str) -> tuple[int, bool]:
    names = [name for name, _ in SHARED]
    group = _group(nodeid)
    return names.index(group) if group in names else len(names), not LONG.match(nodeid)


def _group(nodeid: str) -> str:
    file = _file(nodeid)
    return next((group for group, files in SHARED if files.search(file)), file)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
