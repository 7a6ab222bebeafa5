"""Arrays of numpy and a few strings as one object of the bucket: safetensors, with a checksum over all of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from services.core.errors import StoreError

Arrays = Mapping[str, NDArray[Any]]
_CHECKSUM: Final = "crc32"
_HEADER: Final = 8
"""Bytes before the header, which hold its length."""


class UnreadableArrays(StoreError):
    """The bytes are truncated, changed, or something else than the arrays that the reader expects."""


def dump(arrays: Arrays, strings: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of these arrays and strings."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(contiguous, {**(strings or {}), _CHECKSUM: str(_checksum(contiguous))})


def parse(
    data: bytes, name: str, expected: Mapping[str, str]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays and the strings. `name`, a key, is used in messages.

    `expected`: each array's type in numpy's short form, such as {"task": "i8"}; arrays beyond these are ignored. Raises
    UnreadableArrays if one is missing or of another type, or if the checksum differs.
    """
    try:
        arrays, strings = load(data), _strings(data)
        if strings.pop(_CHECKSUM) != str(_checksum(arrays)):
            raise ValueError("its checksum differs")  # noqa: TRY301  # reported like other unreadable bytes
        for key, kind in expected.items():
            if arrays[key].dtype != np.dtype(kind):
                raise ValueError(f"{key} is {arrays[key].dtype}, not {kind}")  # noqa: TRY301  # as above
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableArrays(f"{name} cannot be read: {error}.") from error
    return {key: arrays[key] for key in expected}, strings


def _strings(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:_HEADER], "little")
    return dict(json.loads(data[_HEADER : _HEADER + length])["__metadata__"])


def _checksum(arrays: Arrays) -> int:
    found = 0
    for name in sorted(arrays):
        found = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), found))
    return found
