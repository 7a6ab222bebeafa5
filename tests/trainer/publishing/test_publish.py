"""Which errors of the store are retried, and what an exported model must answer."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from services.core.errors import (
    BadData,
    CorruptVersion,
    EngineError,
    NotFound,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from services.core.store.files import FileStore
from services.engine.head import Head
from services.trainer.process.lifecycle import is_transient
from tests.support.trainer import TrainerWorld


def caused(number: int) -> StoreError:
    error = StoreError("it failed")
    error.__cause__ = OSError(number, "it failed")
    return error


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT])
def test_io_errors_are_transient(number: int) -> None:
    assert is_transient(caused(number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_full_and_forbidden_stores_are_permanent(number: int) -> None:
    assert not is_transient(caused(number))


def test_only_an_unreachable_bucket_is_transient() -> None:
    assert is_transient(StoreUnreachable("busy"))
    assert not is_transient(StoreRefused("no right"))


def test_other_errors_are_permanent() -> None:
    for error in (
        StoreError("bad name"),
        NotFound("gone"),
        CorruptVersion("bad"),
        BadData("few"),
        ValueError("x"),
    ):
        assert not is_transient(error)


def test_publishing_retries_uploads(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, failures = FileStore.upload, iter([caused(errno.EIO), caused(errno.EIO)])

    def flaky(self: FileStore, source: Path, key: str) -> None:
        for error in failures:
            raise error
        upload(self, source, key)

    world.label(30)
    monkeypatch.setattr(FileStore, "upload", flaky)
    world.train(world.request())
    assert world.registry.versions(world.key) == ["support-1"]


def test_publishing_does_not_retry_once_stopped(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def failing(self: FileStore, *_: object) -> None:
        tries.append(1)
        world.stop.requested = True
        raise caused(errno.EIO)

    world.label(30)
    monkeypatch.setattr(FileStore, "upload", failing)
    with pytest.raises(StoreError):
        world.train(world.request())
    assert len(tries) == 1


def test_a_full_temporary_folder_is_a_store_error(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    world.label(30)
    monkeypatch.setattr(Head, "write", full)
    with pytest.raises(StoreError, match="cannot be written to .*: No space left on device"):
        world.train(world.request())


def test_a_head_that_differs_is_not_published(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Head.write

    def swapped(self: Head, folder: Path) -> None:
        (layer,) = self.layers
        write(replace(self, layers=(replace(layer, bias=layer.bias + 9),)), folder)

    world.label(30)
    monkeypatch.setattr(Head, "write", swapped)
    with pytest.raises(EngineError, match="differ from the trained model's"):
        world.train(world.request())
    assert world.registry.versions(world.key) == []
