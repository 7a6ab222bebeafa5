"""`fitloop models push` uploads a base model whole or refuses it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.core.encoders import Encoders
from services.core.settings import Settings
from services.core.store.files import FileStore
from services.trainer.data.base_encoder import find_alias
from tests.support.base_models import build_tiny_base
from tests.support.buckets import ENDPOINT, KEY, SECRET, build_s3_store, needs_s3, temporary_bucket
from tests.support.terminal import Terminal

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
    """The store that the environment names: a folder instead of a bucket."""
    found = FileStore(tmp_path / "store")
    monkeypatch.setenv("FITLOOP_STORE", found.url + "/")
    return found


def test_push_uploads_a_model_and_prints_its_name(terminal: Terminal, folder: Path, store: FileStore) -> None:
    code, out, _ = terminal.run("models", "push", str(folder))
    assert (code, out) == (0, f"BASELINE_MODEL_NAME={store.url}/base-models/my-model/\n")
    assert list(store.keys()) == sorted(f"base-models/my-model/{name}" for name in FILES)
    assert terminal.run("models", "push", str(folder))[0] == 0, "the same again is no harm"
    head, row = terminal.run("models", "list")[1].splitlines()
    assert head.split() == ["MODEL", "MEGABYTES"]
    assert row.split() == [f"{store.url}/base-models/my-model/", "0.0"]


def test_weights_are_uploaded_last(
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


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json", ""])
def test_an_incomplete_model_is_refused(
    terminal: Terminal, folder: Path, store: FileStore, missing: str
) -> None:
    (folder / missing).unlink() if missing else shutil.rmtree(folder)
    code, _, err = terminal.run("models", "push", str(folder))
    assert code == 1
    assert err.startswith(f"'{folder}' is not a base model: ")
    assert list(store.keys()) == []


def test_push_refuses_a_prefix_with_another_model(terminal: Terminal, folder: Path, store: FileStore) -> None:
    store.write("base-models/my-model/model-00002-of-00002.safetensors", b"x")
    store.write("base-models/my-model/notes.txt", b"x")
    code, _, err = terminal.run("models", "push", str(folder))
    assert code == 1
    assert "already has 1 other model files (such as model-00002-of-00002.safetensors)" in err


def test_push_needs_a_bucket_and_a_name(
    terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FITLOOP_STORE", raising=False)
    assert (
        "No bucket is configured: set FITLOOP_STORE=s3://bucket/prefix/"
        in terminal.run("models", "push", str(folder))[2]
    )
    monkeypatch.setenv("FITLOOP_STORE", "file:///nowhere")
    monkeypatch.chdir(folder)
    odd = folder / "--"
    shutil.copytree(folder / "1_Pooling", odd)
    for name in FILES[:3]:
        shutil.copy(folder / name, odd)
    assert "has no usable name: pass --to s3://bucket/prefix/." in terminal.run("models", "push", "./--")[2]


@needs_s3
def test_push_makes_the_encoder_of_the_first_run(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build_tiny_base(tmp_path / "tiny")
    with temporary_bucket() as name:
        settings = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "FITLOOP_S3_ENDPOINT": ENDPOINT,
        }
        settings |= {"FITLOOP_STORE": f"s3://{name}/", "FITLOOP_CACHE_DIR": str(tmp_path / "cache")}
        for variable, value in settings.items():
            monkeypatch.setenv(variable, value)
        code, out, err = terminal.run("models", "push", str(base))
        assert (code, out) == (0, f"BASELINE_MODEL_NAME=s3://{name}/base-models/tiny/\n")
        store = build_s3_store(f"s3://{name}/", tmp_path / "other")
        alias = find_alias(store, f"s3://{name}/base-models/tiny/", Settings.load().training.max_length)
        assert alias
        assert f"encoder {alias.digest[:12]}, " in err  # its engine depends on the processor
        assert Encoders(store).exists(alias.digest)
