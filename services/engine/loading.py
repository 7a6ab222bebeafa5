"""Versions and encoders of the bucket to what computes them in memory; each file that is read is verified first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from services.core.domain import EncoderManifest, FileEntry, Manifest
from services.core.encoders import Encoders
from services.core.errors import CorruptVersion, NotFound
from services.core.registry import Registry
from services.core.telemetry.correlation import log_ids
from services.engine.encoder import TextEncoder, is_needed, load_encoder
from services.engine.head import FILE, Head, read_head
from services.engine.model import HEAD, Model, load_whole_model
from services.engine.processor import has_vnni

_NOT_FOR_ENGINES = ("oos.json", "report.json", "predictions.safetensors")
"""Files of a version that no engine reads."""
_TOKENIZER_MEMORY = 20
"""A tokenizer takes so many times its file in memory: that of MiniLM 10 MB, and of multilingual models hundreds."""
Weights = TextEncoder | Model
"""An encoder that versions share, or a version that is a whole model."""


class EncoderKey(NamedTuple):
    """An encoder among all: its digest, or the version that is a whole model."""

    digest: str
    project_key: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"encoder {self.digest[:12]}" if self.digest else f"version {self.version}"

    def log_ids(self) -> dict[str, int | str]:
        """Return its fields for log lines."""
        return {"encoder": self.digest[:12]} if self.digest else log_ids(self.project_key, self.version)


@dataclass(frozen=True, slots=True)
class Load:
    """What loading an encoder takes."""

    size: int
    """Bytes in memory, estimated from the files."""
    read: Callable[[], Weights]
    """Reads and verifies them. Raises EngineError, CorruptVersion, StoreError."""

    def size_of(self, weights: Weights) -> int:
        """Return the bytes in memory: int8 weights that are computed in fp32 take four times their file's."""
        return self.size * (4 if text_encoder_of(weights).engine.kind == "ct2-fp32" else 1)


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads what one process computes with: `streams` batches at once with `threads` threads each, or on `cuda`."""

    registry: Registry
    streams: int = 1
    threads: int = 1
    device: str = "cpu"

    def model(self, manifest: Manifest) -> Model:
        """Load a version and its encoder. Raises EngineError, CorruptVersion, StoreError."""
        weights = self.plan(encoder_key(manifest)).read()
        if isinstance(weights, Model):
            return weights
        return Model(manifest.labels, weights, self.head(manifest))

    def head(self, manifest: Manifest) -> Head:
        """Read the head of a version that is one. Raises EngineError, CorruptVersion, StoreError."""
        return read_head(self.registry.verified(manifest, FILE))

    def plan(self, key: EncoderKey) -> Load:
        """Return what loading takes. Raises CorruptVersion, NotFound, StoreError."""
        if key.digest:
            encoder = self._encoder_manifest(key)
            return Load(self.encoder_bytes(encoder), lambda: self.encoder(encoder))
        manifest = self.registry.manifest(key.project_key, key.version)
        return Load(self.whole_model_bytes(manifest), lambda: self.whole_model(manifest))

    def encoder(self, manifest: EncoderManifest) -> TextEncoder:
        """Load an encoder. Raises EngineError, CorruptVersion, StoreError."""
        names = [name for name in manifest.files if is_needed(name, self.engine_of(manifest.engine))]
        folder = Encoders(self.registry.store).folder(manifest, names)
        here = replace(manifest, engine=self.engine_of(manifest.engine)) if self.device == "cpu" else manifest
        return load_encoder(folder, here, self.streams, self.threads, self.device)

    def whole_model(self, manifest: Manifest) -> Model:
        """Load a version that is a whole model. Raises EngineError, CorruptVersion, StoreError."""
        artefact = manifest.artefact
        folder = self._whole_model(manifest)
        return load_whole_model(folder, artefact, manifest.labels, self.streams, self.threads, self.device)

    def encoder_bytes(self, manifest: EncoderManifest) -> int:
        """Return the memory that the encoder takes, estimated from its files."""
        engine = self.engine_of(manifest.engine)
        return _memory({name: entry for name, entry in manifest.files.items() if is_needed(name, engine)})

    def whole_model_bytes(self, manifest: Manifest) -> int:
        """Return the memory that a whole model takes, estimated from its files."""
        return _memory({name: manifest.files[name] for name in self._names(manifest)})

    def engine_of(self, engine: str) -> str:
        """Return the engine that computes here what is stored for `engine`."""
        if self.device == "cuda":
            return "torch-bf16"
        # Without VNNI, ONNX Runtime adds up int8 products in 16 bits, which overflow.
        return "torch-fp32" if engine == "ort-int8" and not has_vnni() else engine

    def _encoder_manifest(self, key: EncoderKey) -> EncoderManifest:
        try:
            return Encoders(self.registry.store).manifest(key.digest)
        except NotFound as error:
            raise CorruptVersion(
                f"The {key} is not in the bucket any more, and versions need it: restore encoders/ from a backup, or train again."
            ) from error

    def _whole_model(self, manifest: Manifest) -> Path:
        names = self._names(manifest)
        paths = [self.registry.verified(manifest, name) for name in names]
        return paths[0].parents[names[0].count("/")]

    def _names(self, manifest: Manifest) -> list[str]:
        engine = self.engine_of(manifest.artefact.engine)
        return [name for name in manifest.files if is_read(name, engine)]


def encoder_key(manifest: Manifest) -> EncoderKey:
    """Return what computes the features of a version."""
    if manifest.artefact.layout == HEAD:
        return EncoderKey(manifest.encoder)
    return EncoderKey("", manifest.project_key, manifest.version)


def text_encoder_of(weights: Weights) -> TextEncoder:
    """Return the encoder of a whole model, or the shared one itself."""
    return weights.encoder if isinstance(weights, Model) else weights


def _memory(files: Mapping[str, FileEntry]) -> int:
    return sum(
        entry.size * (_TOKENIZER_MEMORY if name == "tokenizer.json" else 1) for name, entry in files.items()
    )


def is_read(name: str, engine: str) -> bool:
    """Return whether that engine reads the file of a whole model."""
    is_fp32_weights = "/" not in name and name.endswith(".safetensors")
    foreign = is_fp32_weights if engine == "ct2-int8" else name.startswith("ct2/") and engine == "torch-bf16"
    return name not in _NOT_FOR_ENGINES and not foreign
