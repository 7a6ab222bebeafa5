"""Conversion of frozen dataclasses to JSON and back, for everything that is stored in the bucket.

Every document has a `format` number. A reader accepts its own number and lower ones (new fields have defaults) and
refuses higher ones with an explanation, so that an old process never misreads what a newer one wrote.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from services.core.errors import StoreError, UnknownFormat

FORMAT = 1
T = TypeVar("T")


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

    Raises UnknownFormat for a newer format, StoreError for anything that is not such a document.
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
        raise StoreError(f"{name} is not a readable {kind.__name__}: {_field_errors(error)}") from error
    except ValueError as error:
        raise StoreError(f"{name} is not a readable {kind.__name__}: {error}") from error
    return document


def _field_errors(error: ValidationError) -> str:
    """Name the wrong fields without their values."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in error.errors())
