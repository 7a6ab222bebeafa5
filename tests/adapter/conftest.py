"""The adapter's application with fakes around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import AppWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AppWorld]:
    async with AppWorld(tmp_path) as built:
        yield built
