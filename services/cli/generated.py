"""Pages that are generated from the code: written, or compared with what is committed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_or_check(arguments: Sequence[str], module: str, example: str, page: Callable[[], str]) -> int:
    """Write the page, or with --check compare it: 1 where it is stale, 2 for wrong usage."""
    paths = [Path(argument) for argument in arguments if argument != "--check"]
    if len(paths) != 1:
        print(f"Usage: python -m {module} [--check] {example}", file=sys.stderr)
        return 2
    (path,), text = paths, page()
    if "--check" not in arguments:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is not what the code says: run `make docs` and commit it.", file=sys.stderr)
    return 1
