"""What every ObjectStore does, also if it crashes in the middle of an operation."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import BadConfig, CorruptVersion, NotFound, StoreError
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.store import ObjectStore, check_store, open_store
from services.core.store.files import FileStore
from services.core.store.wrapped import unwrap
from tests.support.buckets import build_s3_store, needs_s3, temporary_bucket
from tests.support.manifests import build_manifest

NO_KEYS = (
    *("", "../a", "a/../../b", "/etc/passwd", "./a", "a//b", "a/", "a/./b", "/", ".", "..", "//"),
    *(
        "a\0b",
        "a\nb",
        "a\x7fb",
        "\udc80",
        "a\\b",
        ".partial-a",
        "a/.partial-b/c",
        "n" * 300,
        "é" * 150,
        "a/" * 500 + "b",
    ),
)
NO_PREFIXES = ("../", "../a", "a//", "./", "/", "/a", "a/../b", "a\0", "a\0/", "a/./", "n" * 300 + "/")


class StoreContract:
    """Subclasses set `store`: empty, and other instances of it see the same objects."""

    store: ObjectStore

    def test_write_then_read(self) -> None:
        self.store.write("a/b.json", b"one")
        assert self.store.read("a/b.json") == b"one"
        self.store.write("a/b.json", b"")
        assert self.store.read("a/b.json") == b""

    def test_size_limit_applies_to_documents_only(self, tmp_path: Path) -> None:
        large = tmp_path / "large"
        large.write_bytes(b"x" * ((1 << 20) + 1))
        for key in ("runs/5-1/status.json", "inbox/cmd-1.json"):
            self.store.upload(large, key)
            message = rf"'{key}' in .* is 1\.0 MB, and objects of this kind may be at most 1 MB"
            with pytest.raises(StoreError, match=message):
                self.store.read(key)
            with pytest.raises(StoreError, match=message):
                self.store.read_changed(key)
            assert self.store.local(key).stat().st_size == (1 << 20) + 1
        self.store.upload(large, "projects/a/versions/v/manifest.json")
        assert len(self.store.read("projects/a/versions/v/manifest.json")) == (1 << 20) + 1

    def test_unchanged_object_is_not_read_again(self) -> None:
        self.store.write("serving.json", b"one")
        found = self.store.read_changed("serving.json")
        assert found is not None
        data, mark = found
        assert data == b"one"
        assert self.store.read_changed("serving.json", mark) is None
        self.store.write("serving.json", b"two")
        again = self.store.read_changed("serving.json", mark)
        assert again is not None
        assert again[0] == b"two"
        with pytest.raises(NotFound, match="has no object"):
            self.store.read_changed("absent", mark)

    def test_local_file_follows_the_object(self) -> None:
        self.store.write("a/b", b"one")
        assert self.store.local("a/b").parts[-2:] == ("a", "b")
        self.store.write("a/b", b"two")
        assert self.store.local("a/b").read_bytes() == b"two"
        self.store.forget("a/b")
        assert self.store.local("a/b").read_bytes() == b"two"
        assert not self.store.forget("never-read")
        self.store.delete("a/b")
        with pytest.raises(NotFound):
            self.store.local("a/b")

    def test_entries_have_size_and_time(self) -> None:
        before = time.time()
        self.store.write("runs/2-1/b", b"xyz")
        self.store.write("runs/2-10/a", b"")
        found = list(self.store.entries("runs/2-1/"))
        assert [(entry.key, entry.size) for entry in found] == [("runs/2-1/b", 3)]
        assert abs(found[0].modified - before) < 60
        assert [entry.key for entry in self.store.entries()] == ["runs/2-1/b", "runs/2-10/a"]

    def test_url_reopens_the_same_store(self) -> None:
        assert not self.store.url.endswith("/")
        assert self.again().url == self.store.url

    def again(self) -> ObjectStore:
        return open_store(self.store.url)

    def test_check_leaves_no_object(self) -> None:
        check_store(self.store, write=False)
        check_store(self.store, write=True)
        assert list(self.store.keys()) == []

    def test_corrupt_file_is_refused_until_repaired(self, tmp_path: Path) -> None:
        registry = Registry(self.store)
        (tmp_path / "v" / "ct2").mkdir(parents=True)
        (tmp_path / "v" / "ct2" / "model.bin").write_bytes(b"weights" * 1000)
        (tmp_path / "v" / "config.json").write_bytes(b"{}")
        registry.publish(tmp_path / "v", build_manifest("v-1"))
        assert registry.versions("5-1") == ["v-1"]
        folder = registry.folder("5-1", "v-1")
        assert (folder / "ct2" / "model.bin").read_bytes() == b"weights" * 1000
        key = "projects/5-1/versions/v-1/ct2/model.bin"
        whole = self.store.read(key)
        self.store.write(key, b"W" + whole[1:])
        for _ in range(2):
            with pytest.raises(CorruptVersion, match="differs from its manifest"):
                registry.file("5-1", "v-1", "ct2/model.bin")
        self.store.write(key, whole)
        assert registry.file("5-1", "v-1", "ct2/model.bin").read_bytes() == whole

    def test_missing_object_is_not_found(self) -> None:
        self.store.write("a/b", b"x")
        for key in ("c", "a", "a/b/c"):
            with pytest.raises(NotFound, match="has no object"):
                self.store.read(key)
            with pytest.raises(NotFound):
                self.store.local(key)

    def test_upload_then_local_read(self, tmp_path: Path) -> None:
        source = tmp_path / "weights"
        source.write_bytes(b"w" * 3_000_000)
        self.store.upload(source, "versions/v-1/weights")
        assert self.store.local("versions/v-1/weights").read_bytes() == source.read_bytes()

    def test_keys_are_listed_in_order_by_prefix(self) -> None:
        for key in ("runs/2-1/b", "runs/10-1/a", "runs/2-1/a", "other", "runs/2-10/a"):
            self.store.write(key, b"x")
        assert list(self.store.keys("runs/2-1")) == ["runs/2-1/a", "runs/2-1/b", "runs/2-10/a"]
        assert list(self.store.keys("runs/2-1/")) == ["runs/2-1/a", "runs/2-1/b"]
        assert list(self.store.keys("absent/")) == []
        assert len(list(self.store.keys())) == 5

    def test_folders_contain_objects(self) -> None:
        self.store.write("runs/2-1/a/b", b"x")
        self.store.write("runs/file", b"x")
        self.store.write("runs/3-1/a", b"x")
        self.store.delete("runs/3-1/a")
        assert self.store.folders("runs/") == ["2-1"]
        assert self.store.folders("absent/") == []

    def test_delete_is_idempotent(self) -> None:
        self.store.write("a/b", b"x")
        self.store.delete("a/b")
        self.store.delete("a/b")
        with pytest.raises(NotFound):
            self.store.read("a/b")
        assert list(self.store.keys()) == []

    @pytest.mark.parametrize("key", NO_KEYS)
    def test_invalid_key_is_refused_by_every_method(self, key: str, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        for act in (
            lambda: self.store.write(key, b"x"),
            lambda: self.store.upload(source, key),
            lambda: self.store.read(key),
            lambda: self.store.read_changed(key),
            lambda: self.store.local(key),
            lambda: self.store.forget(key),
            lambda: self.store.delete(key),
        ):
            with pytest.raises(StoreError, match="not a key"):
                act()

    @pytest.mark.parametrize("prefix", NO_PREFIXES)
    def test_invalid_prefix_lists_nothing(self, prefix: str) -> None:
        for act in (self.store.keys, self.store.entries, self.store.folders):
            with pytest.raises(StoreError, match="No key can begin"):
                list(act(prefix))

    @pytest.mark.parametrize("key", ["a b/c", "модели/вес", "a.b/..c/d..", "x/" * 20 + "y", "-/~"])
    def test_unusual_keys_are_accepted(self, key: str) -> None:
        self.store.write(key, b"x")
        assert self.store.read(key) == b"x"
        assert list(self.store.keys()) == [key]

    def test_reads_are_atomic(self) -> None:
        small, large = b"a" * 1_000, b"b" * 400_000
        self.store.write("serving.json", small)
        over = threading.Event()
        seen: set[bytes] = set()

        def read() -> None:
            while not over.is_set():
                seen.add(self.store.read("serving.json"))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(20):
            self.store.write("serving.json", large)
            self.store.write("serving.json", small)
        over.set()
        for reader in readers:
            reader.join()
        assert seen <= {small, large}

    def test_write_beside_a_delete_is_not_lost(self) -> None:
        over = threading.Event()

        def make_and_delete() -> None:
            while not over.is_set():
                self.store.write("inbox/other", b"x")
                self.store.delete("inbox/other")

        other = threading.Thread(target=make_and_delete)
        other.start()
        try:
            for number in range(100):
                self.store.write(f"inbox/cmd-{number}", b"x")
                assert self.store.read(f"inbox/cmd-{number}") == b"x"
                self.store.delete(f"inbox/cmd-{number}")
        finally:
            over.set()
            other.join()

    def test_failed_upload_leaves_no_object(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"versions/v-1/weights.*cannot be written"):
            self.store.upload(tmp_path / "absent", "versions/v-1/weights")
        assert list(self.store.keys()) == []


KILLED_WHILE_WRITING = """
import os, signal, sys
from services.core.store import open_store
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # the moment before the rename
open_store(sys.argv[1]).write("versions/v-1/manifest.json", b"new")
"""


class TestFileStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.root = tmp_path / "a folder"
        self.store = open_store(self.root.as_uri())

    @pytest.mark.parametrize("before", [None, b"old"])
    def test_killed_write_is_invisible(self, before: bytes | None) -> None:
        """The partial file exists, and is neither read nor listed."""
        if before:
            self.store.write("versions/v-1/manifest.json", before)
        ended = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, self.store.url], check=False)
        assert ended.returncode == -signal.SIGKILL
        assert len([path for path in self.root.rglob("*") if path.name.startswith(".partial-")]) == 1
        assert list(self.store.keys()) == (["versions/v-1/manifest.json"] if before else [])
        assert self.store.folders("versions/") == (["v-1"] if before else [])
        if before:
            assert self.store.read("versions/v-1/manifest.json") == before

    def test_full_disk_leaves_no_partial_object(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_handle: int) -> None:
            raise OSError(28, "No space left on device")

        self.store.write("a", b"old")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="'a' cannot be written to .*: No space left on device"):
            self.store.write("a", b"new")
        assert self.store.read("a") == b"old"
        assert [path.name for path in self.root.iterdir()] == ["a"]

    def test_read_and_delete_errors_are_reported(self) -> None:
        self.store.write("a/b", b"x")
        (self.root / "loop").symlink_to(self.root / "loop")
        with pytest.raises(StoreError, match="cannot be read"):
            self.store.read("loop")
        with pytest.raises(StoreError, match="cannot be deleted"):
            self.store.delete("a")

    def test_unlistable_store_is_an_error(self) -> None:
        self.store.write("runs/1-1/request.json", b"x")
        (self.root / "loop").symlink_to(self.root / "loop")
        with pytest.raises(StoreError, match="cannot be listed"):
            self.store.keys("loop/")
        with pytest.raises(StoreError, match="cannot be listed"):
            self.store.folders("loop/")

    def test_unlistable_subfolder_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store.write("runs/1-1/request.json", b"x")
        scan = os.scandir

        def no_more_handles(path: str) -> Any:
            if str(path).endswith("1-1"):
                raise OSError(24, "Too many open files")
            return scan(path)

        monkeypatch.setattr(os, "scandir", no_more_handles)
        with pytest.raises(StoreError, match="cannot be listed in .*: Too many open files"):
            self.store.keys("runs/")
        with pytest.raises(StoreError, match="Too many open files"):
            self.store.folders("runs/")

    def test_sweep_removes_only_stale_partial_writes(self) -> None:
        folder = unwrap(self.store)
        assert isinstance(folder, FileStore)
        assert folder.sweep(0.0) == 0
        self.store.write("versions/v-1/weights", b"x")
        old, dead = (self.root / "versions" / folder / ".partial-a" for folder in ("v-1", "v-2"))
        young = self.root / ".partial-b"
        dead.parent.mkdir()
        for partial in (old, dead, young):
            partial.write_bytes(b"half")
        now = young.stat().st_mtime
        for partial in (old, dead):
            os.utime(partial, (now - 61, now - 61))
        assert folder.sweep(now) == 2
        assert [path.exists() for path in (old, dead, dead.parent, young)] == [False, False, False, True]
        assert list(self.store.keys()) == ["versions/v-1/weights"]

    def test_url_names_the_folder(self) -> None:
        folder = unwrap(self.store)
        assert isinstance(folder, FileStore)
        assert folder.root == self.root
        assert "%20" in self.store.url

    @pytest.mark.parametrize("url", ["s3:///x", "s3:", "gs://bucket/x", "file:relative", "/a/folder", ""])
    def test_unknown_url_scheme_is_bad_config(self, url: str) -> None:
        with pytest.raises(BadConfig, match="is not a store"):
            open_store(url)


@pytest.fixture(scope="module")
def bucket_name() -> Iterator[str]:
    with temporary_bucket() as name:
        yield name


@needs_s3
class TestS3Store(StoreContract):
    @pytest.fixture(autouse=True)
    def _store(self, bucket_name: str, tmp_path: Path) -> None:
        self.cache = tmp_path / "cache"
        self.store = self.s3 = build_s3_store(
            f"s3://{bucket_name}/{secrets.token_hex(4)}/a prefix é/", self.cache
        )

    def again(self) -> ObjectStore:
        return build_s3_store(self.store.url, self.cache)

    def test_similar_prefixes_are_separate_stores(self, bucket_name: str) -> None:
        one, ten = (
            build_s3_store(f"s3://{bucket_name}/models/{name}/", self.cache) for name in ("v1", "v10")
        )
        one.write("a/b", b"one")
        ten.write("a/b", b"ten")
        assert [list(store.keys()) for store in (one, ten)] == [["a/b"], ["a/b"]]
        assert [store.local("a/b").read_bytes() for store in (one, ten)] == [b"one", b"ten"]

    def test_multipart_upload_is_one_object(self, tmp_path: Path) -> None:
        source = tmp_path / "weights"
        source.write_bytes(os.urandom(1 << 20) * 35)
        self.store.upload(source, "weights")
        assert self.store.local("weights").read_bytes() == source.read_bytes()
        assert self.store.local("weights") == self.store.local("weights")

    def test_corrupt_local_copy_is_downloaded_again(self, tmp_path: Path) -> None:
        registry = Registry(self.store)
        (tmp_path / "v").mkdir()
        (tmp_path / "v" / "model.bin").write_bytes(b"weights")
        registry.publish(tmp_path / "v", build_manifest("v-1"))
        copy = registry.file("5-1", "v-1", "model.bin")
        copy.write_bytes(b"Weights")
        assert registry.file("5-1", "v-1", "model.bin").read_bytes() == b"weights"

    def test_folder_markers_are_not_objects(self) -> None:
        self.store.write("runs/2-1/a", b"x")
        for name in ("runs/", "runs/3-1/", "runs/2-1/"):
            self.s3._clients.documents._put_object(self.s3.bucket, self.s3.prefix + name, b"")
        assert list(self.store.keys()) == ["runs/2-1/a"]

    def test_listing_follows_pages(self) -> None:
        for number in range(1005):
            self.store.write(f"many/{number:04d}/a", b"")
        assert self.store.folders("many/") == [f"{number:04d}" for number in range(1005)]
        assert len(list(self.store.keys("many/"))) == 1005

    def test_listing_is_one_request(self) -> None:
        """The leader lists these twice a second."""
        for number in range(30):
            self.store.write(f"runs/5-{number}/request.json", b"x")
            self.store.write(f"runs/5-{number}/checkpoints/a", b"x")
        asked = self.requests()
        assert len(Runs(self.store).names(5)) == 30
        assert Inbox(self.store).commands() == []
        assert len(asked) == 2

    def requests(self) -> list[str]:
        client: Any = self.s3._clients.documents
        asked: list[str] = []
        self.store.folders("warm/")  # asks for the region, once
        send = client._http.urlopen

        def counted(method: str, url: str, **options: Any) -> Any:
            asked.append(f"{method} {url}")
            return send(method, url, **options)

        client._http.urlopen = counted
        return asked
