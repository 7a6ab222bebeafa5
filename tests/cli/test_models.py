"""`fitloop models`: a base model goes whole into the bucket, or is refused before anything is copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.core.store.files import FileStore
from tests.cli.test_admin import Terminal

FILES = ("config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my model"
    for name in (*FILES, "README.md", ".cache/x.json"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(name.encode())
    return made


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """The store of the environment; a folder serves as well as a bucket."""
    found = FileStore(tmp_path / "store")
    monkeypatch.setenv("FITLOOP_STORE", found.url + "/")
    return found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def test_a_model_is_pushed_and_its_name_printed(terminal: Terminal, folder: Path, store: FileStore) -> None:
    code, out, _ = terminal.run("models", "push", str(folder))
    assert (code, out) == (0, f"BASELINE_MODEL_NAME={store.url}/base-models/my-model/\n")
    assert list(store.keys()) == sorted(f"base-models/my-model/{name}" for name in FILES)
    assert terminal.run("models", "push", str(folder))[0] == 0, "the same again is no harm"
    head, row = terminal.run("models", "list")[1].splitlines()
    assert head.split() == ["MODEL", "MEGABYTES"]
    assert row.split() == [f"{store.url}/base-models/my-model/", "0.0"]


def test_weights_go_last(
    terminal: Terminal, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []
    upload = FileStore.upload

    def noted(self: FileStore, source: Path, key: str) -> None:
        uploaded.append(key)
        upload(self, source, key)

    monkeypatch.setattr(FileStore, "upload", noted)
    terminal.run("models", "push", str(folder), "--to", f"{store.url}/elsewhere/")
    assert uploaded[-1] == "model.safetensors"
    assert store.folders("") == ["elsewhere"]


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("config.json", "config.json and model.safetensors are not both there"),
        ("model.safetensors", "config.json and model.safetensors are not both there"),
        ("tokenizer.json", "its tokenizer (tokenizer.json or vocab.txt) is not there"),
        ("", "there is no such folder"),
    ],
)
def test_half_a_model_is_refused(
    terminal: Terminal, folder: Path, store: FileStore, missing: str, why: str
) -> None:
    (folder / missing).unlink() if missing else shutil.rmtree(folder)
    code, _, err = terminal.run("models", "push", str(folder))
    assert code == 1
    assert why in err
    assert list(store.keys()) == []


def test_another_model_in_the_same_place_is_refused(
    terminal: Terminal, folder: Path, store: FileStore
) -> None:
    store.write("base-models/my-model/model-00002-of-00002.safetensors", b"x")
    store.write("base-models/my-model/notes.txt", b"x")
    code, _, err = terminal.run("models", "push", str(folder))
    assert code == 1
    assert "already holds 1 other files of a model (as model-00002-of-00002.safetensors)" in err


def test_a_place_must_be_named(terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FITLOOP_STORE", raising=False)
    assert "set FITLOOP_STORE=s3://bucket/prefix/" in terminal.run("models", "push", str(folder))[2]
    monkeypatch.setenv("FITLOOP_STORE", "file:///nowhere")
    monkeypatch.chdir(folder)
    odd = folder / "--"
    shutil.copytree(folder / "1_Pooling", odd)
    for name in FILES[:3]:
        shutil.copy(folder / name, odd)
    assert "has no name to store it by" in terminal.run("models", "push", "./--")[2]
