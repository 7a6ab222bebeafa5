"""The fenced store: any replica reads, and only the leader changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.adapter.state.documents import FencedStore, NotLeading
from services.core.store.files import FileStore
from tests.support.fakes import FakeLeadership


def test_changes_need_a_lead_that_outlives_them(tmp_path: Path) -> None:
    below, seat = FileStore(tmp_path / "store"), FakeLeadership()
    store = FencedStore(below, seat, 5.0)
    (tmp_path / "file").write_bytes(b"weights")
    store.write("a/one", b"1")
    store.upload(tmp_path / "file", "a/two")
    seat.certain_seconds = 4.0
    changes: list[Callable[[], None]] = [
        lambda: store.write("a/one", b"2"),
        lambda: store.upload(tmp_path / "file", "a/one"),
        lambda: store.delete("a/one"),
    ]
    for change in changes:
        with pytest.raises(NotLeading) as raised:
            change()
        assert raised.value.transient
    assert store.url == below.url
    assert store.read("a/one") == b"1"
    found = store.read_changed("a/two")
    assert found
    assert found[0] == b"weights"
    assert store.local("a/two").read_bytes() == b"weights"
    assert not store.forget("a/two")
    assert list(store.keys("a/")) == [entry.key for entry in store.entries("a/")] == ["a/one", "a/two"]
    assert store.folders("") == ["a"]
    seat.certain_seconds = 5.0
    store.delete("a/one")
    assert list(store.keys()) == ["a/two"]
