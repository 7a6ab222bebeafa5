from __future__ import annotations

from pathlib import Path

import pytest

from services.core.domain import EncoderManifest, Pooling
from services.core.encoders import Encoders
from services.core.errors import CorruptVersion, NotFound, UnknownFormat
from services.core.store import open_store

DIGEST = "ab" * 32
MANIFEST = EncoderManifest(DIGEST, "base", "bert", 32, 128, Pooling(), "torch-fp32", "")


@pytest.fixture
def encoders(tmp_path: Path) -> Encoders:
    return Encoders(open_store((tmp_path / "store").as_uri()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made" / "ct2").mkdir(parents=True)
    (tmp_path / "made" / "config.json").write_text("{}")
    (tmp_path / "made" / "ct2" / "model.bin").write_bytes(b"weights")
    return tmp_path / "made"


def test_published_encoder_is_read_verified(encoders: Encoders, folder: Path) -> None:
    assert not encoders.exists(DIGEST)
    published = encoders.publish(folder, MANIFEST)
    assert sorted(published.files) == ["config.json", "ct2/model.bin"]
    assert encoders.manifest(DIGEST) == published
    found = encoders.folder(published, ["ct2/model.bin", "config.json"])
    assert (found / "ct2" / "model.bin").read_bytes() == b"weights"


def test_encoder_is_published_once(encoders: Encoders, folder: Path) -> None:
    first = encoders.publish(folder, MANIFEST)
    (folder / "config.json").write_text("{ }")
    assert encoders.publish(folder, MANIFEST) == first
    assert encoders.store.read(f"encoders/{DIGEST}/config.json") == b"{}"


@pytest.mark.parametrize("damage", [b"", b"weight", b"Weights"], ids=["empty", "truncated", "flipped"])
def test_damaged_file_is_refused(encoders: Encoders, folder: Path, damage: bytes) -> None:
    published = encoders.publish(folder, MANIFEST)
    encoders.store.write(f"encoders/{DIGEST}/ct2/model.bin", damage)
    with pytest.raises(CorruptVersion, match=r"'ct2/model.bin' of encoder abababababab \(base\) differs"):
        encoders.folder(published, ["ct2/model.bin"])


def test_missing_file_is_refused(encoders: Encoders, folder: Path) -> None:
    published = encoders.publish(folder, MANIFEST)
    encoders.store.delete(f"encoders/{DIGEST}/config.json")
    with pytest.raises(CorruptVersion, match="is missing"):
        encoders.folder(published, ["config.json"])


def test_deleted_encoder_does_not_exist(encoders: Encoders, folder: Path) -> None:
    encoders.publish(folder, MANIFEST)
    encoders.delete(DIGEST)
    with pytest.raises(NotFound):
        encoders.manifest(DIGEST)
    assert encoders.digests() == []


def test_broken_manifest_is_corrupt(encoders: Encoders) -> None:
    encoders.store.write(f"encoders/{DIGEST}/manifest.json", b"{")
    with pytest.raises(CorruptVersion, match="manifest of encoder abababababab is broken"):
        encoders.manifest(DIGEST)
    encoders.store.write(f"encoders/{DIGEST}/manifest.json", b'{"format": 2}')
    with pytest.raises(UnknownFormat, match="upgrade Fitloop"):
        encoders.manifest(DIGEST)
