"""Imports the given modules, and everything below our packages, and prints the result as one line of JSON.

A name after a dash is skipped. It runs in a separate Python: in this environment with `--only LIST`, which hides packages
that LIST (docker/<image>.txt) does not name, or inside an image through stdin. It uses only the standard library.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

STARTED = time.perf_counter()


class Listed:
    """A finder that hides some packages."""

    def __init__(self, hidden: set[str]) -> None:
        self._hidden = hidden

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if name.partition(".")[0] in self._hidden else PathFinder.find_spec(name, path, target)

    find_distributions = staticmethod(PathFinder.find_distributions)


def main(arguments: list[str]) -> None:
    if arguments[0] == "--only":
        sys.meta_path[:] = [
            Listed(hidden(Path(arguments[1]))) if it is PathFinder else it for it in sys.meta_path
        ]
        arguments = arguments[2:]
    sys.argv = sys.argv[:1]  # kserve reads the command line when it is imported
    left_out = {name[1:] for name in arguments if name.startswith("-")}
    for name in [name for name in arguments if not name.startswith("-")]:
        module = importlib.import_module(name)
        if name.startswith("services"):
            for below in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
                if below.name not in left_out:
                    importlib.import_module(below.name)
    seconds = time.perf_counter() - STARTED
    print(json.dumps({"seconds": round(seconds, 2), "rss_mb": resident_mb(), "uncompiled": uncompiled()}))


def hidden(listed: Path) -> set[str]:
    """Return top-level names of installed packages that are not on the list."""
    lines = [line for line in listed.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    kept = {canonical(line.partition("==")[0]) for line in lines} | {"fitloop"}
    owners = metadata.packages_distributions()
    return {top for top, names in owners.items() if not kept & {canonical(name) for name in names}}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def uncompiled() -> list[str]:
    """Return modules that Python had to compile, because they have no bytecode file."""
    sources = {
        name: spec.cached
        for name, module in sys.modules.items()
        if (spec := getattr(module, "__spec__", None)) and spec.cached and str(spec.origin).endswith(".py")
    }
    return sorted(name for name, cached in sources.items() if not Path(cached).exists())


def resident_mb() -> int:
    """Return the resident memory, if the kernel reports it."""
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text(encoding="ascii")) if status.exists() else None
    return int(found.group(1)) // 1000 if found else 0


if __name__ == "__main__":
    main(sys.argv[1:])
