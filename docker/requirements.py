"""Prints what some extras of pyproject.toml ask for, without what is named after `--without`.

python docker/requirements.py predictor cluster --without label-studio-sdk
"""

import re
import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Core dependencies, then those of each extra, `fitloop[...]` among them followed."""
    asked, _, without = " ".join(sys.argv[1:]).partition("--without")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, found = project["optional-dependencies"], list(project["dependencies"])
    for name in asked.split():
        found += extras[name]
    for line in found:
        name = re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]
        if name != "fitloop" and name not in without.split():
            print(line)  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
