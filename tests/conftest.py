"""What all tests share: property tests have no deadline, because on a busy machine any example may take a second.

No test's secrets are struck out of another's sentences.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from services.core.redaction import keep_secrets

settings.register_profile("fitloop", deadline=None)
settings.load_profile("fitloop")


@pytest.fixture(autouse=True)
def _no_secrets() -> Iterator[None]:
    yield
    keep_secrets(())
