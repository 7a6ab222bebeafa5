"""Where the files of a base model are, and what identifies their present state. Imports neither torch nor transformers.

A name is a folder, a hub id, or s3://bucket/prefix/ in the object storage of the settings; the hub is asked only if its files
are not in the local cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from services.core.base_models import FILES, is_file_of_a_model, transformer_of, weights_in
from services.core.errors import BadConfig, StoreError
from services.core.redaction import safe_reason
from services.core.store import open_store

_FILES = list(FILES)


def find_base(name: str) -> Path:
    """Return a local folder with the base model. Raises BadConfig, or StoreUnreachable, which is transient."""
    if name.startswith("s3://"):
        return _fetch(name)
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _download(name)


def identity_of(name: str) -> dict[str, str]:
    """Return what changes when the base model does, without reading its files; {} if they cannot be seen from here.

    Of a folder, each file's size and time of modification; of a bucket, each object's; of a hub id, the commit that the
    local cache holds. Raises StoreUnreachable.
    """
    if name.startswith("s3://"):
        entries = open_store(name).entries()
        return {one.key: f"{one.size} {one.modified}" for one in entries if is_file_of_a_model(one.key)}
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return _cached_commit(name)
    files = ((path, path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
    states = {key: path.stat() for path, key in files if is_file_of_a_model(key)}
    return {key: f"{state.st_size} {state.st_mtime_ns}" for key, state in states.items()}


def unusable(name: str, why: str) -> BadConfig:
    """Return the error that says why the base model cannot be used, and what to set."""
    return BadConfig(
        f"The base model {name!r} cannot be used: {why}. "
        "Set BASELINE_MODEL_NAME to a folder, an s3://bucket/prefix/ or a hub id that this machine can reach, with "
        "model.safetensors."
    )


def _cached_commit(name: str) -> dict[str, str]:
    # By the layout of the hub's cache: importing huggingface_hub takes longer than a probe.
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
    try:
        return {"commit": (cache / f"models--{name.replace('/', '--')}" / "refs" / "main").read_text("utf-8")}
    except (OSError, ValueError):
        return {}


def _fetch(url: str) -> Path:
    """Return a local folder with the model's files, copied once. Raises StoreUnreachable, which is transient."""
    try:
        store = open_store(url)
        keys = [key for key in store.keys("") if is_file_of_a_model(key)]
        if not keys:
            raise unusable(url, "there is no model below it (`fitloop models push DIR` puts one there)")
        paths = [store.local(key) for key in keys]
        folder = paths[0].parents[keys[0].count("/")]
        for path in {path for path in folder.rglob("*") if path.is_file()} - set(paths):
            store.forget(path.relative_to(folder).as_posix())  # of an earlier model
    except StoreError as error:
        if error.transient:
            raise
        raise unusable(url, str(error).rstrip(".")) from error
    return folder


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        cached = Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
        if weights_in(transformer_of(cached)):
            return cached
    except HFValidationError as error:
        raise unusable(name, "there is no such folder, and it is not a valid hub id") from error
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise unusable(
            name,
            f"there is no such folder, and it could not be downloaded from the hub ({safe_reason(error)})",
        ) from error
