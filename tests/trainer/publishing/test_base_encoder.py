"""A run finds its base model's encoder, or makes it: once, and again when it is damaged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from services.core.domain import Method
from services.core.encoders import Encoders
from services.core.errors import BadConfig
from services.core.features import FeatureStore, key_array
from services.core.labels import text_key
from services.trainer.data import base_files, base_model, features
from services.trainer.publishing import encoder as module
from tests.support.base_models import build_tiny_base
from tests.support.trainer import WORDS, TrainerWorld
from tests.support.trainer_process import serve_label_studio, trainer_command, trainer_environment

FORBIDDEN = ("torch", "transformers", "sklearn", "scipy", "huggingface_hub")


@pytest.fixture
def own(tmp_path: Path) -> TrainerWorld:
    """A world whose base model no other test has; random weights this small are exact enough in int8 everywhere."""
    world = TrainerWorld(tmp_path / "data", build_tiny_base(tmp_path / "base", spread=0.01))
    world.label(30)
    return world


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no base model be loaded and no encoder be made."""

    def failing(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(base_model, "load_base", failing)
    monkeypatch.setattr(module, "publish_encoder", failing)


def digest(world: TrainerWorld) -> str:
    """Return the digest of the newest version's encoder."""
    return world.registry.manifests(world.key)[-1].encoder


def test_encoder_is_made_once(own: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    own.train(own.request())
    forbid(monkeypatch)
    own.train(own.request())
    assert own.manifest("support-1").encoder == own.manifest("support-2").encoder
    assert len(Encoders(own.store).digests()) == 1


def test_probe_imports_neither_torch_nor_transformers(own: TrainerWorld, tmp_path: Path) -> None:
    own.train(own.request())
    for name in FORBIDDEN:
        (tmp_path / "forbidden" / name).mkdir(parents=True)
        (tmp_path / "forbidden" / name / "__init__.py").write_text("raise ImportError('forbidden')")
    run = own.request(Method.AUTO)
    with serve_label_studio(own) as url:
        environment = trainer_environment(url)
        environment["PYTHONPATH"] = f"{tmp_path / 'forbidden'}:{environment['PYTHONPATH']}"
        command = trainer_command(own, run)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert own.status(run).published[0].version == "support-2"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "manifest", "deleted"])
def test_damaged_encoder_is_made_again(own: TrainerWorld, damage: str) -> None:
    own.train(own.request())
    key = f"encoders/{digest(own)}/"
    data = own.store.read(f"{key}tokenizer.json")
    if damage == "deleted":
        Encoders(own.store).delete(digest(own))
    elif damage == "missing":
        own.store.delete(f"{key}tokenizer.json")
    elif damage == "manifest":
        own.store.write(f"{key}manifest.json", b"{")
    else:
        own.store.write(f"{key}tokenizer.json", data[:-1] if damage == "truncated" else b" " + data[1:])
    own.train(own.request())
    assert own.manifest("support-2").encoder == own.manifest("support-1").encoder
    assert own.store.read(f"{key}tokenizer.json") == data


def test_damaged_encoder_without_its_base_model_is_said(
    own: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> Path:
        raise base_files.unusable(name, "there is no such folder")

    monkeypatch.setattr(base_files, "_download", unreachable)
    own.train(own.request())
    own.store.write(f"encoders/{digest(own)}/tokenizer.json", b"")
    own.base.rename(own.base.parent / "elsewhere")
    with pytest.raises(
        BadConfig, match=r"in the bucket cannot be used any more. The base model .* cannot be used"
    ):
        own.train(own.request())


def test_encoder_serves_without_its_base_model(own: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    own.train(own.request())
    own.base.rename(own.base.parent / "elsewhere")
    forbid(monkeypatch)
    own.train(own.request())
    assert own.manifest("support-2").encoder == own.manifest("support-1").encoder


def test_base_model_that_was_replaced_is_another_encoder(own: TrainerWorld) -> None:
    own.train(own.request())
    build_tiny_base(own.base, seed=1)
    own.train(own.request())
    assert own.manifest("support-2").encoder != own.manifest("support-1").encoder


def test_base_model_that_was_only_touched_is_the_same(
    own: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.train(own.request())
    (own.base / "config.json").touch()
    monkeypatch.setattr(module, "publish_encoder", None)
    own.train(own.request())
    forbid(monkeypatch)
    own.train(own.request())
    assert own.manifest("support-3").encoder == own.manifest("support-1").encoder


def test_only_new_texts_are_computed(own: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def counting(encoder: object, ids: list[list[int]], *rest: object, **more: object) -> object:
        computed.append(len(ids))
        return original(encoder, ids, *rest, **more)  # type: ignore[arg-type]

    original = features.compute_features
    monkeypatch.setattr(features, "compute_features", counting)
    own.train(own.request())
    own.label(10)
    own.train(own.request())
    own.train(own.request())
    assert computed == [30 + len(WORDS), 10, 0], "the texts and the names of the labels, once"
    store = FeatureStore(own.store, own.key, digest(own), 32)
    texts = [row["data"]["text"] for row in own.labelstudio.tasks[1].values()]
    assert (store.load().rows(key_array(map(text_key, texts))) >= 0).all()
    first, same = (
        load_file(own.registry.file(own.key, name, "head.safetensors")) for name in ("support-2", "support-3")
    )
    assert first.keys() == same.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(
            same[name], values, err_msg="stored features are those that were computed"
        )


def test_damaged_features_are_computed_again(own: TrainerWorld) -> None:
    own.train(own.request())
    (key,) = own.store.keys(f"projects/{own.key}/features/")
    own.store.write(key, own.store.read(key)[:-7])
    own.train(own.request())
    one, other = (own.registry.out_of_sample(own.key, name).answers for name in ("support-1", "support-2"))
    assert all(np.allclose(one[key], other[key]) for key in one)
