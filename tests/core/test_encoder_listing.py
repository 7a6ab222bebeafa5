"""What a listing of encoders/ tells: sizes, damage, aliases."""

from __future__ import annotations

import json

import pytest

from services.core.encoder_listing import EncoderListing, StoredEncoder, list_encoders
from services.core.encoders import Encoders
from services.core.errors import StoreUnreachable
from services.core.registry import Registry
from tests.support.encoders import publish_stub_encoder
from tests.support.store import MemoryStore

DIGEST = "ab" * 32
FOLDER = f"encoders/{DIGEST}"


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    publish_stub_encoder(Registry(store), DIGEST, "minilm")
    return store


def only(store: MemoryStore) -> StoredEncoder:
    (found,) = list_encoders(store).encoders.values()
    return found


def test_an_encoder_is_listed_with_its_size(store: MemoryStore) -> None:
    found = only(store)
    assert (found.name, found.problem, found.retired_at) == ("encoder abababababab (minilm)", "", None)
    assert found.manifest == Encoders(store).manifest(DIGEST)
    assert found.size == sum(map(len, store.data.values()))
    assert list_encoders(MemoryStore()) == EncoderListing()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("model.safetensors", None, "its file 'model.safetensors' is missing"),
        ("model.safetensors", b"half", "its file 'model.safetensors' has 4 bytes, not 7"),
        (
            "manifest.json",
            None,
            "has no manifest: it is still being published, or publishing was interrupted",
        ),
        ("manifest.json", b"{", "The manifest of encoder abababababab is broken"),
        ("manifest.json", b'{"format": 2}', "upgrade Fitloop"),
    ],
)
def test_damage_is_seen(store: MemoryStore, name: str, content: bytes | None, problem: str) -> None:
    if content is None:
        del store.data[f"{FOLDER}/{name}"]
    else:
        store.data[f"{FOLDER}/{name}"] = content
    assert problem in only(store).problem


def test_aliases_are_listed_and_other_files_are_not(store: MemoryStore) -> None:
    store.clock = lambda: 7.0
    alias = {"digest": DIGEST, "base_model": "minilm", "max_length": 256}
    store.write("encoders/base-0123456789abcdef.json", json.dumps(alias).encode())
    store.write("encoders/.check-01", b"")
    store.write("encoders/base-broken.json", b"{")
    (found,) = list_encoders(store).aliases
    assert (found.digest, found.base_model, found.modified) == (DIGEST, "minilm", 7.0)


def test_retired_encoder_is_marked_and_can_be_claimed(store: MemoryStore) -> None:
    encoders, before = Encoders(store), only(store)
    store.clock = lambda: 7.0
    encoders.retire(DIGEST, 5.0)
    assert (only(store).retired_at, only(store).modified) == (5.0, before.modified)
    assert encoders.claim(DIGEST) == before.manifest
    assert only(store) == before
    store.write(f"{FOLDER}/retired.json", b"{")
    assert only(store).retired_at is None


def test_known_manifests_are_not_read_again(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    known = list_encoders(store)

    def unreadable(_: str) -> bytes:
        raise AssertionError

    monkeypatch.setattr(store, "read", unreadable)
    assert list_encoders(store, known) == known


def test_a_store_that_does_not_answer_is_an_error(store: MemoryStore) -> None:
    store.away = StoreUnreachable("It does not answer.")
    with pytest.raises(StoreUnreachable):
        list_encoders(store)
