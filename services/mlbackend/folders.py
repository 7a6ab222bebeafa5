"""A version's files as a folder that a class may write into: its MODEL_DIR. The version itself never changes.

Files are copied rather than linked, because a class writes in place: `self.set` changes `cache.db`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from services.core.domain import Manifest
from services.core.registry import Registry

PREFIX: Final = "model/"
"""The class's files are below this folder of a version; what Fitloop adds, such as its report, is not."""


def model_files(manifest: Manifest) -> dict[str, str]:
    """Return path in MODEL_DIR → name among the version's files."""
    return {name.removeprefix(PREFIX): name for name in manifest.files if name.startswith(PREFIX)}


def write_folder(registry: Registry, manifest: Manifest, folder: Path) -> None:
    """Copy a version's files into the folder, each verified. Raises CorruptVersion, StoreError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, name in model_files(manifest).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(registry.verified(manifest, name), target)
