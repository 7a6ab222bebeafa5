"""A bucket for one test, with a user for each kind of process that has exactly the rights it needs."""

from __future__ import annotations

import io
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.deleteobjects import DeleteObject

PREFIX = "loop"


@dataclass(frozen=True, slots=True)
class Storage:
    """An S3 server that tests administer."""

    endpoint: str
    """As reached from this machine."""
    key: str
    secret: str
    endpoint_in_pods: str

    def client(self) -> Minio:
        parts = urlsplit(self.endpoint)
        return Minio(parts.netloc, self.key, self.secret, secure=parts.scheme == "https")

    def admin(self) -> MinioAdmin:
        parts = urlsplit(self.endpoint)
        provider = StaticProvider(self.key, self.secret)
        return MinioAdmin(endpoint=parts.netloc, credentials=provider, secure=parts.scheme == "https")


@dataclass
class Bucket:
    """A context manager: the bucket and its users exist until it ends."""

    storage: Storage
    name: str = field(default_factory=lambda: f"fitloop-test-{secrets.token_hex(4)}")

    def __enter__(self) -> Self:
        self.client = self.storage.client()
        self.client.make_bucket(self.name)
        for process, statements in self._rights().items():
            self._add_user(process, statements)
        return self

    def __exit__(self, *_: object) -> None:
        admin = self.storage.admin()
        for process in self._rights():
            admin.user_remove(self.user(process))
            admin.policy_remove(self.user(process))
        names = (
            DeleteObject(str(found.object_name))
            for found in self.client.list_objects(self.name, recursive=True)
        )
        for error in self.client.remove_objects(self.name, names):
            raise AssertionError(str(error))
        self.client.remove_bucket(self.name)

    @property
    def url(self) -> str:
        """Value of FITLOOP_STORE."""
        return f"s3://{self.name}/{PREFIX}/"

    def user(self, process: str) -> str:
        """Return the access key of adapter, predictor or trainer."""
        return f"{self.name}-{process}"

    def secret(self, process: str) -> str:
        """Return the secret key of adapter, predictor or trainer."""
        return f"secret-of-{self.user(process)}"

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys in it, without Fitloop's prefix."""
        found = self.client.list_objects(self.name, f"{PREFIX}/{prefix}", recursive=True)
        return [str(one.object_name).removeprefix(f"{PREFIX}/") for one in found]

    def read(self, key: str) -> bytes:
        answer = self.client.get_object(self.name, f"{PREFIX}/{key}")
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(self.name, f"{PREFIX}/{key}", io.BytesIO(data), len(data))

    def modified(self, key: str) -> float:
        """Return when an object was written by the storage's clock, in seconds since the epoch with fractions."""
        (found,) = self.client.list_objects(self.name, prefix=f"{PREFIX}/{key}")
        assert found.last_modified is not None
        return float(found.last_modified.timestamp())

    def document(self, key: str) -> dict[str, Any]:
        """Return a JSON object."""
        return dict(json.loads(self.read(key)))

    def upload(self, folder: Path, prefix: str) -> str:
        """Upload a folder's files below the prefix; return its s3:// URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.fput_object(
                    self.name, f"{prefix}/{path.relative_to(folder).as_posix()}", str(path)
                )
        return f"s3://{self.name}/{prefix}/"

    def _rights(self) -> dict[str, list[dict[str, Any]]]:
        objects, whole = f"arn:aws:s3:::{self.name}", ["s3:GetObject"]
        listing = {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": [objects],
        }
        reading = {"Effect": "Allow", "Action": whole, "Resource": [f"{objects}/*"]}
        writes = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        everywhere = {"Effect": "Allow", "Action": writes, "Resource": [f"{objects}/*"]}
        runs = [f"{objects}/{PREFIX}/{place}/*" for place in ("projects", "runs", "encoders")]
        own = {"Effect": "Allow", "Action": writes, "Resource": runs}
        return {
            "adapter": [listing, reading, everywhere],
            "predictor": [listing, reading],
            "trainer": [listing, reading, own],
        }

    def _add_user(self, process: str, statements: list[dict[str, Any]]) -> None:
        admin, user = self.storage.admin(), self.user(process)
        admin.policy_add(user, policy={"Version": "2012-10-17", "Statement": statements})
        admin.user_add(user, self.secret(process))
        admin.attach_policy([user], user=user)
