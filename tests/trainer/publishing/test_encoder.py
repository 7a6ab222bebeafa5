"""A loaded model becomes an encoder that other programs can read and that our engines load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from services.core import documents
from services.core.domain import EncoderCheck, Pooling
from services.core.encoders import Encoders
from services.core.errors import EngineError
from services.core.registry import Registry
from services.core.store.files import FileStore
from services.engine.encoder import PROJECTION
from services.engine.head import Head, Layer
from services.engine.loading import Loader
from services.engine.tokenise import encode
from services.trainer.data.base_model import BaseModel, load_base
from services.trainer.data.modules import Modules, read_modules
from services.trainer.publishing import encoder as module
from services.trainer.publishing.encoder import Probe, publish_encoder
from services.trainer.publishing.int8 import open_int8
from tests.support.base_models import TEXTS, build_tiny_base, minilm


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_base(tmp_path_factory.mktemp("base"), spread=0.3)
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "README.md").write_text("# A model card")
    return load_base(str(folder), 32)


def published(base: BaseModel, store: FileStore, probe: Probe | None = None) -> Path:
    """Return the encoder's folder in the store."""
    manifest = publish_encoder(store, base, probe).manifest
    return store.root / "encoders" / manifest.digest


def test_encoder_has_the_files_of_record(tmp_path: Path, base: BaseModel) -> None:
    folder = published(base, store := FileStore(tmp_path))
    manifest = Encoders(store).manifest(base.digest)
    files = {"config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
    assert manifest.files.keys() >= files | {"check.json", "LICENSE", "README.md"}
    assert (manifest.width, manifest.max_length, manifest.pooling) == (32, 32, Pooling())
    check = documents.load(EncoderCheck, (folder / "check.json").read_bytes(), "check.json")
    assert check.accepted == (manifest.engine == "ct2-int8") == (folder / "ct2" / "model.bin").exists()
    assert check.texts == 460
    assert 0.9 < check.lowest_cosine <= check.mean_cosine <= 1


def test_encoder_is_read_back_as_it_was(tmp_path: Path, base: BaseModel) -> None:
    layer = Layer(
        np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32), np.ones(8, np.float32), "tanh"
    )
    modules = Modules(Pooling("cls", normalize=True, prompt="query: "), (layer,))
    folder = published(replace(base, modules=modules, digest="ab" * 32), FileStore(tmp_path))
    found = read_modules(folder, folder)
    assert found.pooling == modules.pooling
    assert np.array_equal(found.layers[0].weight, layer.weight)
    assert found.layers[0].activation == "tanh"
    assert (folder / PROJECTION / "head.safetensors").is_file()
    config = json.loads((folder / "1_Pooling" / "config.json").read_bytes())
    assert config["pooling_mode_cls_token"]
    assert not config["pooling_mode_mean_tokens"]


def test_transformers_loads_the_encoder(tmp_path: Path, base: BaseModel) -> None:
    folder = published(base, FileStore(tmp_path))
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXTS[0])["input_ids"] == encode(base.tokenizer, [TEXTS[0]])[0]
    weight = model.state_dict()["embeddings.word_embeddings.weight"]
    assert torch.equal(weight, base.encoder.state_dict()["embeddings.word_embeddings.weight"])


def test_architecture_without_int8_is_served_in_fp32(tmp_path: Path) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base", "albert")), 32)
    manifest = publish_encoder(FileStore(tmp_path / "store"), base).manifest
    assert (manifest.engine, manifest.engine_reason) == (
        "torch-fp32",
        "int8 was refused: albert has no int8 engine yet.",
    )


def test_int8_that_differs_is_refused_and_removed(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*arguments: object) -> object:
        engine = open_int8(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(
            engine, "forward", lambda batch: np.ones((len(batch), 32), np.float32), raising=False
        )
        return engine

    monkeypatch.setattr(module, "open_int8", swapped)
    folder = published(base, store := FileStore(tmp_path))
    manifest = Encoders(store).manifest(base.digest)
    assert manifest.engine == "torch-fp32"
    assert manifest.engine_reason.startswith("int8 was refused: on 460 texts")
    assert not (folder / "ct2").exists()
    check = documents.load(EncoderCheck, (folder / "check.json").read_bytes(), "check.json")
    assert (check.accepted, check.figures) == (False, manifest.engine_reason)


def test_too_large_vocabularies_are_served_in_fp32(tmp_path: Path) -> None:
    """torch raises for such an id; CTranslate2 would read beyond its table."""
    base = load_base(str(build_tiny_base(tmp_path / "base")), 32)
    base.tokenizer.add_tokens(["zzz"])
    manifest = publish_encoder(FileStore(tmp_path / "store"), base).manifest
    assert manifest.engine == "torch-fp32"
    assert "more than the" in manifest.engine_reason


def test_trained_encoder_must_answer_as_it_did(tmp_path: Path, base: BaseModel) -> None:
    head = Head((Layer(np.eye(3, 32, dtype=np.float32), np.zeros(3, np.float32)),))
    store = FileStore(tmp_path)
    trained = replace(base, digest="")
    with pytest.raises(EngineError, match="logits differ from the trained model's"):
        publish_encoder(store, trained, Probe(TEXTS, head, np.full((len(TEXTS), 3), 9, np.float32)))
    assert Encoders(store).digests() == []


@pytest.mark.skipif(minilm() is None, reason="the package with all-MiniLM-L6-v2's weights is not installed")
def test_minilm_is_served_in_int8(tmp_path: Path) -> None:
    base = load_base(str(minilm()), 256)
    store = FileStore(tmp_path)
    manifest = publish_encoder(store, base).manifest
    assert manifest.engine == "ct2-int8", manifest.engine_reason
    found = Loader(Registry(store)).encoder(manifest).features_of(TEXTS)
    fp32 = Loader(Registry(store)).encoder(replace(manifest, engine="torch-fp32")).features_of(TEXTS)
    assert (found * fp32).sum(axis=1).min() > 0.99
