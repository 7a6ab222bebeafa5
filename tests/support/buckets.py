"""A real S3 server for tests, named by FITLOOP_TEST_S3 (its address), FITLOOP_TEST_S3_KEY and FITLOOP_TEST_S3_SECRET.

Tests that need it are skipped if these are not set.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject
from pydantic import SecretStr

from services.core.settings import S3Settings, StorageSettings
from services.core.store.s3 import S3Store

ENDPOINT = os.environ.get("FITLOOP_TEST_S3", "")
KEY = os.environ.get("FITLOOP_TEST_S3_KEY", "")
SECRET = os.environ.get("FITLOOP_TEST_S3_SECRET", "")

needs_s3 = pytest.mark.skipif(not ENDPOINT, reason="FITLOOP_TEST_S3 names no S3 server")


def build_s3_settings(
    endpoint: str = ENDPOINT, key: str = KEY, secret: str = SECRET, **others: object
) -> S3Settings:
    """Build settings independent of the environment."""
    return S3Settings(endpoint=endpoint, access_key=SecretStr(key), secret_key=SecretStr(secret), **others)  # type: ignore[arg-type]  # by name, for tests


def build_s3_store(url: str, cache: Path, settings: S3Settings | None = None) -> S3Store:
    """Build a store that caches in `cache`."""
    return S3Store(url, settings or build_s3_settings(), StorageSettings(cache_dir=cache))


@contextmanager
def temporary_bucket() -> Iterator[str]:
    """Create a bucket and yield its name; delete it at the end."""
    parts, name = urlsplit(ENDPOINT), f"fitloop-store-{secrets.token_hex(4)}"
    client = Minio(endpoint=parts.netloc, access_key=KEY, secret_key=SECRET, secure=parts.scheme == "https")
    client.make_bucket(bucket_name=name)
    try:
        yield name
    finally:
        found = client.list_objects(bucket_name=name, recursive=True)
        left = (DeleteObject(str(one.object_name)) for one in found)
        assert list(client.remove_objects(bucket_name=name, delete_object_list=left)) == []
        client.remove_bucket(bucket_name=name)
