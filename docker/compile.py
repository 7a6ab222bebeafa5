"""Imports what a process imports, so that its bytecode is in the image: a read-only file system takes none later.

python docker/compile.py services.cli.adapter services.adapter
"""

import importlib
import pkgutil
import sys


def main() -> None:
    """Each module that is named, and for a package what is below it."""
    for name in sys.argv[1:]:
        module = importlib.import_module(name)
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


if __name__ == "__main__":
    main()
