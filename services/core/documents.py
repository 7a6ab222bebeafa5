"""Conversion of frozen dataclasses to JSON and back, for everything that is stored in the bucket.

Every document has a `format` number. A reader accepts its own number and lower ones (new fields have defaults) and
refuses higher ones with an explanation, so that an old process never misreads what a newer one wrote. A document that is
read, changed and written again inherits from Extensible, so that a later release's fields survive an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import (
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from services.core.errors import UnknownFormat, UnreadableDocument

FORMAT = 1
T = TypeVar("T")
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensible:
    """A document, or a part of one, that keeps JSON fields it does not know: they are loaded, and dumped again beside its own.

    Change it with `dataclasses.replace`, which keeps them; a new instance has none.
    """

    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The fields of a later release, as in the JSON. A field that is itself named `unknown` is kept in here as well."""

    @model_validator(mode="before")
    @classmethod
    def _set_unknown_apart(cls, plain: Any) -> Any:
        if not isinstance(plain, dict):
            return plain
        found, unknown = dict[str, Any](), dict[str, Any]()
        for name, value in plain.items():
            is_known = name in cls.__dataclass_fields__ and name != _UNKNOWN
            (found if is_known else unknown)[name] = value
        return {**found, _UNKNOWN: unknown}

    @model_serializer(mode="wrap")
    def _put_unknown_back(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = serialise(self)
        return {**plain.pop(_UNKNOWN), **plain}


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the adapter of a class, built once: building takes milliseconds, parsing microseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def dump(document: object) -> bytes:
    """Serialise the document as indented UTF-8 JSON."""
    return _adapter(type(document)).dump_json(document, indent=1)


def to_plain(document: object) -> Any:
    """Convert the document to dicts, lists, strings and numbers."""
    return _adapter(type(document)).dump_python(document, mode="json")


def load(kind: type[T], data: bytes, name: str) -> T:
    """Parse `kind` from JSON. `name`, a key, is used in error messages.

    Raises UnknownFormat for a newer format, UnreadableDocument for anything that is not such a document.
    """
    try:
        found = json.loads(data)
        number = found.get("format", FORMAT) if isinstance(found, dict) else FORMAT
        if isinstance(number, int) and number > FORMAT:
            raise UnknownFormat(
                f"{name} has format {number}, and this release knows formats up to {FORMAT}: upgrade Fitloop."
            )
        document: T = _adapter(kind).validate_python(found)
    except ValidationError as error:
        raise _unreadable(kind, name, _field_errors(error)) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(kind, name, str(error)) from error
    return document


def _unreadable(kind: type[Any], name: str, reason: str) -> UnreadableDocument:
    return UnreadableDocument(
        f"{name} is not a readable {kind.__name__}: {reason}. Restore it from a backup, or delete it."
    )


def _field_errors(error: ValidationError) -> str:
    """Name the wrong fields without their values."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in error.errors())
