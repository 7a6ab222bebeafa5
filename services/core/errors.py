"""The errors of Fitloop. Each names the thing, the value, and what to do.

Errors of libraries are wrapped where they are met (`raise ... from`), so that the rooms above know these alone.
`exit_code` is what a trainer process ends with (sysexits): 75 is tried again, 64, 65 and 78 are not.
"""

from __future__ import annotations

from typing import ClassVar, Final


class FitloopError(Exception):
    """Any error that a person can act on; its text is one sentence or two."""

    exit_code: ClassVar[int] = 1


class BadRequest(FitloopError):
    """What was asked for cannot be understood or is not allowed (exit 64)."""

    exit_code = 64


class BadData(FitloopError):
    """The labels or texts do not allow the work (exit 65); more or other labels will."""

    exit_code = 65


class BadConfig(FitloopError):
    """A setting or the environment is wrong (exit 78); someone has to change it."""

    exit_code = 78


class Preempted(FitloopError):
    """The process was asked to end and has kept what it had done (exit 75); run it again."""

    exit_code = 75


class StoreError(FitloopError):
    """The store refused or failed."""

    transient: ClassVar[bool] = False
    """Whether the same may succeed a little later, with nothing changed by anybody."""


class StoreUnreachable(StoreError):
    """The store did not answer, or is too busy (exit 75: it may be back in a moment)."""

    exit_code = 75
    transient = True


class StoreRefused(StoreError):
    """The store will refuse this until a person changes a setting, a key or a right (exit 78)."""

    exit_code = 78


class NotFound(StoreError):
    """The store holds nothing under that key."""


class ObjectTooLarge(StoreError):
    """An object has more bytes than are read of its kind: as good as broken."""


class CorruptVersion(StoreError):
    """A version's file differs from its manifest, or is missing."""


class UnknownFormat(StoreError):
    """A document was written by a newer release than this one."""


class LabelStudioError(FitloopError):
    """Label Studio answered with an error."""


class LabelStudioUnreachable(LabelStudioError):
    """Label Studio did not answer (exit 75: it may be back in a moment)."""

    exit_code = 75


class TokenRefused(LabelStudioError):
    """Label Studio refused our token."""


class LabelStudioRejected(LabelStudioError):
    """Label Studio does not accept what it was sent (400), and has stored nothing of it."""


class LabelStudioNotFound(LabelStudioError):
    """Label Studio itself says that it has no such thing, or hides it from this token (404)."""


class LabelStudioAnswerTooLarge(LabelStudioError):
    """Label Studio's answer has more bytes than are read."""


class NoLabelSpace(FitloopError):
    """The label config offers no single-choice `Choices` that reads a `Text`."""


class EngineError(FitloopError):
    """A version cannot be loaded, or failed its smoke test."""


class Overloaded(FitloopError):
    """The queue of texts is full; the answer is 503 with Retry-After."""


class PredictorsUnreachable(Overloaded):
    """No predictor answers, or not in time; for whoever asked it is the same 503."""


class Locked(FitloopError):
    """Another process holds the data folder."""


UNUSABLE_VERSION: Final = (EngineError, CorruptVersion, NotFound)
"""Errors that mean a bad version; any other error of a load is transient."""
