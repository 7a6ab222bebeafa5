"""core.store.keys: a bucket refuses what a folder refuses, before anybody is asked. tests/contract tries it on both."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import StoreError
from tests.contract.test_store import NO_KEYS, NO_PREFIXES
from tests.support.buckets import build_s3_settings, build_s3_store


@pytest.mark.parametrize("key", NO_KEYS)
def test_an_invalid_key_makes_no_request(key: str, tmp_path: Path) -> None:
    store = build_s3_store(
        "s3://bucket/prefix", tmp_path, build_s3_settings("http://nobody.invalid", "a", "b", region="r")
    )
    for act in (store.read, store.local, store.forget, store.delete, lambda name: store.write(name, b"x")):
        with pytest.raises(StoreError, match="not a key"):
            act(key)


@pytest.mark.parametrize("prefix", NO_PREFIXES)
def test_an_invalid_prefix_makes_no_request(prefix: str, tmp_path: Path) -> None:
    store = build_s3_store(
        "s3://bucket/prefix", tmp_path, build_s3_settings("http://nobody.invalid", "a", "b", region="r")
    )
    for act in (store.keys, store.entries, store.folders):
        with pytest.raises(StoreError, match="No key can begin"):
            list(act(prefix))
