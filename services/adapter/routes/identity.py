"""Which project a request means. Label Studio writes `5`, `"5"` and `"5.1795473352"` (id and creation time)."""

from __future__ import annotations

from collections.abc import Mapping


def project_id(value: object) -> int | None:
    """The id in what stands under `project`: a number, a text, or an object with `id`; None where there is none."""
    if isinstance(value, Mapping):
        value = value.get("id")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    digits = str(value).partition(".")[0].strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return int(digits)
