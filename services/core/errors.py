"""The errors of Fitloop. Each message names the object, the value, and what to do.

Errors of libraries are wrapped where they occur (`raise ... from`), so that callers know these classes only.
`exit_code` is a trainer's exit code (sysexits): 75 is retried, 64, 65 and 78 are not.
"""

from __future__ import annotations

from typing import ClassVar, Final


class FitloopError(Exception):
    """Base class of errors that a person can act on; the message is one or two sentences."""

    exit_code: ClassVar[int] = 1


class BadRequest(FitloopError):
    """The request cannot be parsed or is not allowed (exit 64)."""

    exit_code = 64


class BadData(FitloopError):
    """The labels or texts do not allow the work (exit 65); more or other labels will."""

    exit_code = 65


class BadConfig(FitloopError):
    """A setting or the environment is wrong (exit 78); a person has to change it."""

    exit_code = 78


class Preempted(FitloopError):
    """The process was interrupted and has saved its progress (exit 75); run it again."""

    exit_code = 75


class StoreError(FitloopError):
    """The store refused or failed."""

    transient: ClassVar[bool] = False
    """Whether a retry may succeed without any change."""


class StoreUnreachable(StoreError):
    """The store did not answer, or is too busy (exit 75: it may be back in a moment)."""

    exit_code = 75
    transient = True


class EncoderDeleted(StoreUnreachable):
    """The encoder of a version that is being published is not in the bucket any more: the run begins anew, and makes it."""


class StoreRefused(StoreError):
    """The store will refuse this until a person changes a setting, a key or a permission (exit 78)."""

    exit_code = 78


class NotFound(StoreError):
    """The store has no object under that key."""


class ObjectTooLarge(StoreError):
    """An object is larger than its kind may be, so it is treated as broken."""


class CorruptVersion(StoreError):
    """A version's file differs from its manifest, or is missing."""


class CorruptLabels(StoreError):
    """A segment of the label index is missing or broken: the labels are read from Label Studio again."""


class UnreadableDocument(StoreError):
    """A JSON document of the store is broken, or not what its name says: a person restores or deletes it."""


class UnknownFormat(UnreadableDocument):
    """A document was written by a newer release than this one."""


class LabelStudioError(FitloopError):
    """Label Studio answered with an error."""


class LabelStudioUnreachable(LabelStudioError):
    """Label Studio did not answer (exit 75: it may be back in a moment)."""

    exit_code = 75


class TokenRefused(LabelStudioError):
    """Label Studio refused our token."""


class LabelStudioRejected(LabelStudioError):
    """Label Studio refused the content of a request (400) and stored nothing of it."""


class LabelStudioNotFound(LabelStudioError):
    """Label Studio itself answered 404: there is no such object, or this token may not see it."""


class ProjectReplaced(LabelStudioNotFound):
    """Label Studio has another project under this id: its key differs, so it starts from scratch."""


class LabelStudioAnswerTooLarge(LabelStudioError):
    """Label Studio's answer is larger than the limit."""


class NoLabelSpace(FitloopError):
    """The label config offers no usable control that reads a `Text`."""


class EngineError(FitloopError):
    """A version cannot be loaded, or failed its smoke test."""


class ModelClassError(EngineError):
    """A user's model class cannot be imported, raised, did not answer in time, or its process ended (exit 65)."""

    exit_code = 65


class Overloaded(FitloopError):
    """The queue of texts is full; the answer is 503 with Retry-After."""


class PredictorsUnreachable(Overloaded):
    """No predictor answers in time; the client gets the same 503."""


class Locked(FitloopError):
    """Another process holds the data folder."""


UNUSABLE_VERSION: Final = (EngineError, CorruptVersion, NotFound)
"""Errors that mean a bad version; any other error of a load is transient."""
