"""What all tests share: property tests have no deadline, because on a busy machine any example may take a second."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fitloop", deadline=None)
settings.load_profile("fitloop")
