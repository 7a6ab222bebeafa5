"""Tiny encoders, and versions that are heads for their features, as a trainer publishes them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from services.core.domain import Artefact, EncoderManifest, Manifest, Pooling
from services.core.encoders import Encoders
from services.core.immutable import entry_of
from services.core.registry import Registry
from services.engine.head import Head, Layer
from tests.support.base_models import build_tiny_base
from tests.support.manifests import build_manifest

WIDTH = 32
MAX_LENGTH = 32


def build_tiny_encoder(
    folder: Path,
    architecture: str = "bert",
    pooling: Pooling | None = None,
    *,
    int8: bool = True,
    seed: int = 0,
) -> EncoderManifest:
    """Write the files of an encoder into `folder`, which is created; return its manifest, for `Encoders.publish`."""
    build_tiny_base(folder, architecture, seed)
    if int8:
        import transformers

        from services.engine.torch import load_pretrained
        from services.trainer.publishing.int8 import convert

        convert(load_pretrained(transformers.AutoModel, folder), architecture, folder / "ct2")
    return EncoderManifest(
        digest=entry_of(folder / "model.safetensors").sha256,
        base_model=f"tiny-{architecture}",
        architecture=architecture,
        width=WIDTH,
        max_length=MAX_LENGTH,
        pooling=pooling or Pooling(),
        engine="ct2-int8" if int8 else "torch-fp32",
        engine_reason="int8 was compared with fp32: on 10 texts 0 answers differ.",
    )


def publish_stub_encoder(registry: Registry, digest: str, base_model: str = "base") -> EncoderManifest:
    """Publish an encoder whose weights are a few bytes, where nothing computes with it."""
    manifest = EncoderManifest(digest, base_model, "bert", WIDTH, MAX_LENGTH, Pooling(), "torch-fp32", "")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text("{}")
        (Path(folder) / "model.safetensors").write_bytes(b"weights")
        return Encoders(registry.store).publish(Path(folder), manifest)


def publish_head(
    registry: Registry,
    encoder: str,
    version: str,
    key: str = "5-1",
    *,
    labels: tuple[str, ...] = ("A", "B"),
    layers: tuple[Layer, ...] | None = None,
    temperature: float = 1.0,
    thresholds: tuple[float, ...] | None = None,
    seed: int = 0,
    created_at: float | None = None,
) -> Manifest:
    """Publish a version with a random head for the encoder of this digest; with `thresholds` a text may have several labels."""
    random = np.random.default_rng(seed)
    weight = random.normal(0, 1, (len(labels), WIDTH)).astype(np.float32)
    layers = layers or (Layer(weight, np.zeros(len(labels), np.float32)),)
    made = build_manifest(version, key, labels)
    artefact = Artefact("head", "encoder", "", MAX_LENGTH, 1.0)
    made = replace(made, artefact=artefact, encoder=encoder, created_at=created_at or made.created_at)
    made = replace(made, multi_label=thresholds is not None)
    with tempfile.TemporaryDirectory() as folder:
        flags = None if thresholds is None else np.array(thresholds, np.float32)
        Head(layers, temperature, flags).write(Path(folder))
        (Path(folder) / "oos.json").write_text("{}")
        return registry.publish(Path(folder), made)
