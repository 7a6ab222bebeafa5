# ruff: noqa: INP001  # a script that images are made with, and no package
"""Write the packages of each image: docker/<image>.txt, exact versions, for `pip install --no-deps`.

A package is included if it is required, directly or by another, and is not in NEVER, which lists packages that are required
but not imported. Metadata come from this Python's packages, versions from constraints.txt.
tests/images/test_closures.py runs the processes with only a list's packages, which proves that NEVER removes nothing needed.

python docker/closure.py            writes the lists
python docker/closure.py --check    ends with 1 where they are not what it would write
"""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parent

UVICORN_ASKS = {"watchfiles", "websockets"}  # reloading, and a protocol that is not spoken
KUBERNETES_ASKS = {"aiohttp", "aiohttp-retry"}  # its second client, `kubernetes.aio`
SKIPPED = UVICORN_ASKS | KUBERNETES_ASKS | {"setuptools"}

# Image: extras of pyproject.toml, packages besides, packages that are never imported. What is in torch.txt is not repeated.
IMAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...], set[str]]] = {
    "adapter": (("adapter", "cluster", "tracing"), (), SKIPPED),
    "predictor": (
        ("predictor", "tracing"),
        (),
        (SKIPPED - {"watchfiles"}) | {"grpcio-tools", "pillow"},  # kserve's client and tools are not used
    ),
    "torch": ((), ("torch", "transformers"), {"setuptools"}),
    "trainer": (("trainer", "adapter", "tracing"), (), SKIPPED),
}
HEAD = "# Written by docker/closure.py; the versions are those of constraints.txt.\n"


def main() -> int:
    """Write or compare."""
    pins = _pins()
    texts = {HERE / f"{image}.txt": _text(image, pins) for image in IMAGES}
    if "--check" not in sys.argv[1:]:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path.name for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: not what `python docker/closure.py` writes. Run it.\n")
    return int(bool(stale))


def _text(image: str, pins: dict[str, str]) -> str:
    extras, besides, never = IMAGES[image]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(besides) or list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return HEAD + "".join(f"{name}=={pins[name]}\n" for name in sorted(_closure(wanted, never)))


def _closure(wanted: list[str], never: set[str]) -> set[str]:
    """All that `wanted` leads to, on this platform."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in wanted]
    while todo:
        asked = todo.pop()
        name = canonicalize_name(asked.name)
        if name in never:
            continue
        for extra in {"", *asked.extras} - {known for package, known in found if package == name}:
            found.add((name, extra))
            todo += _asks(name, extra)
    return {name for name, _ in found}


def _asks(name: str, extra: str) -> list[Requirement]:
    lines = [Requirement(line) for line in metadata.requires(name) or ()]
    return [line for line in lines if line.marker is None or line.marker.evaluate({"extra": extra})]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


if __name__ == "__main__":
    sys.exit(main())
