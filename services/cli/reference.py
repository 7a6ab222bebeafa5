"""Generate docs/configuration.md from the settings: `python -m services.cli.reference [--check] docs/configuration.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services.core.settings import GROUPS, variables

_HEAD = """\
# Configuration

Every setting is an environment variable, read once at startup; an empty one counts as unset. White space, line breaks and
invisible characters (a byte order mark, a zero-width space) are stripped from both ends of every value; a value of nothing
else counts as unset. Inside a value they are refused, except for blanks in paths, model names, user names and passwords. An
invalid value prevents startup; all invalid values are reported at once, without secrets. Where two variables set the same
thing, the one listed first wins, which is logged. This page is generated from `services/core/settings/`: change the
settings there and run `make docs`.

`fitloop local` also takes `--host`, `--port` and `--data`. The commands that talk to it (`fitloop status`, `train`, …) read
its address from `FITLOOP_URL` (default `http://127.0.0.1:9090`), and `BASIC_AUTH_USER` and `BASIC_AUTH_PASS` as below.
"""

_COMPUTED_DEFAULTS = {"workers": "one per core"}


def reference() -> str:
    """Return the page in Markdown, with a table for each group of settings."""
    return "\n".join([_HEAD, *(_group(name, group.__doc__ or "", group) for name, group in GROUPS.items())])


def _group(name: str, doc: str, group: Any) -> str:
    title = name.replace("_", " ").capitalize().replace("studio", "Studio")
    rows = [
        f"| {_cell(' or '.join(f'`{variable}`' for variable in variables(group, field)))} "
        f"| {_default(field, info)} | {_cell(info.description or '')} |"
        for field, info in group.model_fields.items()
    ]
    return "\n".join(
        [f"## {title}", "", doc.strip(), "", "| Variable | Default | Meaning |", "|---|---|---|", *rows, ""]
    )


def _default(name: str, info: FieldInfo) -> str:
    if info.default_factory is not None:
        return _COMPUTED_DEFAULTS.get(name, "computed at startup")
    value = info.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if value is None or value == "":
        return "unset"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", text.replace("|", "\\|").replace("\n", " "))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def write_or_check(arguments: Sequence[str], module: str, example: str, page: Callable[[], str]) -> int:
    """Write a generated page, or compare it if --check is given. Return the exit code: 1 if it is stale, 2 for wrong usage."""
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
    print(f"{path} is out of date: run `make docs` and commit it.", file=sys.stderr)
    return 1


def main(arguments: list[str]) -> int:
    return write_or_check(arguments, "services.cli.reference", "docs/configuration.md", reference)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
