from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from services.core.errors import BadConfig, StoreRefused, StoreUnreachable
from services.core.store.files import FileStore
from services.engine.tokenise import encode
from services.engine.torch import pad_batch
from services.trainer.data.base_model import load_base
from tests.support.base_models import ARCHITECTURES, TEXTS, build_tiny_base, minilm

MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_loads_and_reads_texts_of_any_length(tmp_path: Path, architecture: str) -> None:
    base = load_base(str(build_tiny_base(tmp_path, architecture)), 256)
    assert base.max_length == (64 if base.pad_id == 1 else 66), "66 positions, of which 2 may be no token's"
    ids, mask = pad_batch(encode(base.tokenizer, [*TEXTS, "order " * 500]), base.pad_id)
    assert ids.shape[1] == base.max_length
    with torch.inference_mode():
        hidden = base.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    assert hidden.isfinite().all()
    assert hidden.dtype == torch.float32
    assert not base.encoder.training


@pytest.mark.parametrize(
    "changed", ["model.safetensors", "config.json", "tokenizer.json", "modules.json", "length"]
)
def test_digest_changes_with_all_that_features_depend_on(folder: Path, tmp_path: Path, changed: str) -> None:
    base = Path(shutil.copytree(folder, tmp_path / "base"))
    before = load_base(str(base), 32).digest
    assert load_base(str(folder), 32).digest == before
    if changed == "modules.json":
        (base / "modules.json").write_text(json.dumps(MODULES))
        (base / "1_Pooling").mkdir()
        (base / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    elif changed == "model.safetensors":
        build_tiny_base(base, seed=1)
    elif changed != "length":
        document = json.loads((base / changed).read_bytes())
        if changed == "tokenizer.json":
            document["model"]["max_input_chars_per_word"] = 7
        else:
            document["layer_norm_eps"] = 1e-5
        (base / changed).write_text(json.dumps(document))
    assert load_base(str(base), 31 if changed == "length" else 32).digest != before


def test_a_sentence_transformers_folder_names_its_transformer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "0_Transformer")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    modules = [{**MODULES[0], "path": "0_Transformer"}, MODULES[1]]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert load_base(str(tmp_path), 32).source == tmp_path / "0_Transformer"


def test_a_slow_tokenizer_is_converted(folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(folder, tmp_path / "slow"))
    (base / "tokenizer.json").unlink()
    (base / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nmy\norder")
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert encode(load_base(str(base), 32).tokenizer, ["My order"]) == [[2, 5, 6, 3]]


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_refuses_an_incomplete_folder(folder: Path, tmp_path: Path, missing: str) -> None:
    base = Path(shutil.copytree(folder, tmp_path / "base"))
    (base / missing).unlink()
    with pytest.raises(BadConfig, match=r"is missing\. Set BASELINE_MODEL_NAME to"):
        load_base(str(base), 32)


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json"])
def test_refuses_broken_files(folder: Path, tmp_path: Path, broken: str) -> None:
    base = Path(shutil.copytree(folder, tmp_path / "base"))
    (base / broken).write_bytes(b"broken")
    with pytest.raises(BadConfig, match="cannot be used"):
        load_base(str(base), 32)


def test_refuses_a_name_that_is_no_folder_or_hub_id() -> None:
    with pytest.raises(BadConfig, match="'/no/such/folder' cannot be used: there is no such folder"):
        load_base("/no/such/folder", 32)


def test_downloads_only_what_the_cache_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def snapshot_download(name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        assert name == "someone/model"
        assert not any("bin" in pattern for pattern in allow_patterns)
        asked.append(local_files_only)
        if local_files_only:
            raise FileNotFoundError
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_base("someone/model", 32).source == folder
    assert asked == [True, False]


def test_an_incomplete_cache_is_not_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = folder

    def snapshot_download(_: str, *, local_files_only: bool = False, **_options: Any) -> str:
        assert local_files_only or cached != folder, "the hub is asked"
        return str(cached if local_files_only else folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_base("someone/model", 32).source == folder
    cached = tmp_path
    assert load_base("someone/model", 32).source == folder


def test_names_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(_: str, **_options: Any) -> str:
        raise ConnectionError("no network:\nAuthorization: Bearer hf_0123456789")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(
        BadConfig, match=r"it could not be downloaded from the hub \(no network: Authorization \[hidden\]\)"
    ):
        load_base("someone/model", 32)


class Bucket:
    """Stands for `s3://bucket/prefix/`: a folder that is copied from, as the bucket's store copies it."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.objects, self.cache = FileStore(root), cache
        self.forgotten: list[str] = []

    def keys(self, prefix: str) -> Iterator[str]:
        return self.objects.keys(prefix)

    def local(self, key: str) -> Path:
        (self.cache / key).parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(self.objects.local(key), self.cache / key))

    def forget(self, key: str) -> bool:
        self.forgotten.append(key)
        (self.cache / key).unlink()
        return True


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    found = Bucket(tmp_path / "bucket", tmp_path / "cache")
    monkeypatch.setattr("services.trainer.data.base_files.open_store", lambda _: found)
    return found


def test_loads_a_base_model_from_a_bucket(folder: Path, bucket: Bucket) -> None:
    shutil.copytree(folder, bucket.objects.root / "0_Transformer")
    bucket.objects.write("modules.json", b'[{"path": "0_Transformer"}]')
    bucket.objects.write("README.md", b"not a file of a model")
    bucket.objects.write(".cache/x.json", b"nor this")
    base = load_base("s3://bucket/models/tiny/", 32)
    assert base.source == bucket.cache / "0_Transformer"
    assert base.digest == load_base(str(folder), 32).digest
    assert not (bucket.cache / "README.md").exists()


def test_drops_another_models_files_from_the_cache(folder: Path, bucket: Bucket) -> None:
    shutil.copytree(folder, bucket.objects.root)
    bucket.cache.mkdir()
    (bucket.cache / "model-00002-of-00002.safetensors").write_bytes(b"of another")
    assert load_base("s3://bucket/models/tiny/", 32).digest == load_base(str(folder), 32).digest
    assert bucket.forgotten == ["model-00002-of-00002.safetensors"]


def test_refuses_an_empty_prefix(bucket: Bucket) -> None:
    with pytest.raises(
        BadConfig, match=r"there is no model below it \(`fitloop models push DIR` puts one there\)"
    ):
        load_base("s3://bucket/models/", 32)


def test_only_an_unreachable_bucket_is_transient(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([StoreUnreachable("busy."), StoreRefused("No right.")])

    def keys(_prefix: str) -> Iterator[str]:
        raise next(errors)

    monkeypatch.setattr(bucket, "keys", keys)
    with pytest.raises(StoreUnreachable):
        load_base("s3://bucket/models/", 32)
    with pytest.raises(BadConfig, match="cannot be used: No right. Set BASELINE_MODEL_NAME"):
        load_base("s3://bucket/models/", 32)


@pytest.mark.skipif(minilm() is None, reason="the package with all-MiniLM-L6-v2's weights is not installed")
def test_minilm_loads() -> None:
    base = load_base(str(minilm()), 256)
    assert (base.max_length, base.pad_id, base.config.hidden_size) == (256, 0, 384)
    assert [len(ids) for ids in encode(base.tokenizer, ["hello"])] == [3], "its file pads to 128"
