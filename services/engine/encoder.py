"""An encoder in memory: texts to token ids to features, (texts, d). Shared by all versions whose heads read its features.

torch and transformers (some seconds, some hundred MB) are imported only if the engine asks for them or the device is a GPU, which
computes every encoder in bf16 from its fp32 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from services.core.domain import EncoderManifest
from services.core.errors import EngineError, UnknownFormat
from services.engine.compute import Engine, Features, compute
from services.engine.head import FILE, Layer, read_head
from services.engine.pooling import Pooler, pooler_of
from services.engine.tokenise import (
    check_vocabulary,
    encode,
    open_tokenizer,
    pad_id_of,
    read_config,
    truncation_length,
)

PROJECTION = "projection"
"""The folder of an encoder with the dense layers of its base model, in the format of a head."""
INT8_FOLDERS = {"ct2-int8": "ct2", "ort-int8": "ort"}
"""The folder of an encoder with the weights that an int8 engine reads."""
SMOKE_TEXTS = ("ok", "When will my order arrive?", "", "Привет, мир! 你好 🙂", "a long text " * 40)


class TextEncoder:
    """Thread-safe; call `close` once no request uses it."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, prompt: str = "") -> None:
        self.engine = engine
        self.prompt = prompt
        self.max_length = truncation_length(tokenizer)
        self.tokenizer = tokenizer

    @property
    def width(self) -> int:
        """Return the dimensions of a feature vector."""
        return self.engine.width

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text behind the prompt, at least one and at most `max_length` each."""
        return encode(self.tokenizer, [f"{self.prompt}{text}" for text in texts] if self.prompt else texts)

    def features_of(self, texts: Sequence[str]) -> Features:
        """Compute features (texts, d) in this thread, for trainers and tests; servers use the Scheduler."""
        return compute(self.engine, self.encode(texts))

    def smoke_test(self) -> None:
        """Raise EngineError unless a few fixed texts get finite features."""
        if not np.isfinite(self.features_of(SMOKE_TEXTS)).all():
            raise EngineError("The encoder failed its smoke test: its features are not finite.")

    def close(self) -> None:
        """Free the memory."""
        self.engine.close()


def is_needed(name: str, engine: str) -> bool:
    """Return whether that engine reads the file of an encoder: each int8 engine has a folder of its own."""
    parts = name.split("/")
    if parts[0] in INT8_FOLDERS.values():
        return parts[0] == INT8_FOLDERS.get(engine)
    if len(parts) == 1 and name.endswith(".safetensors"):
        return engine not in INT8_FOLDERS
    return name in {"config.json", "tokenizer.json"} or parts[0] == PROJECTION


def load_encoder(
    folder: Path, manifest: EncoderManifest, streams: int, threads: int, device: str = "cpu"
) -> TextEncoder:
    """Load the encoder in `folder`, to compute `streams` batches at once with `threads` threads each, or on `cuda`.

    Raises EngineError if something is wrong with the files, UnknownFormat if a newer release made them.
    """
    tokenizer = open_tokenizer(folder, manifest.max_length)
    pooler = pooler_of(manifest.pooling, _projection(folder))
    engine = open_engine(
        manifest.engine,
        folder,
        tokenizer,
        pooler,
        manifest.width,
        streams,
        threads,
        device,
        padded=manifest.padded,
    )
    return TextEncoder(engine, tokenizer, manifest.pooling.prompt)


def open_engine(
    name: str,
    folder: Path,
    tokenizer: Tokenizer,
    pooler: Pooler | None,
    width: int,
    streams: int,
    threads: int,
    device: str,
    *,
    padded: bool,
) -> Engine:
    """Open the engine called `name` over a model's folder; without a pooler the features are a classifier's logits.

    Raises EngineError, UnknownFormat.
    """
    config = read_config(folder)
    if name == "ct2-int8" and device == "cpu" and pooler:
        from services.engine.ct2 import Ct2Engine
        from services.engine.exactness import open_ct2

        check_vocabulary(config, tokenizer)
        open_as = partial(Ct2Engine, folder / "ct2", pooler, width, streams, threads)
        return open_ct2(open_as, folder, tokenizer)
    if name == "ort-int8" and device == "cpu" and pooler:
        from services.engine.ort import OrtEngine

        check_vocabulary(config, tokenizer)
        return OrtEngine(folder / "ort", pooler, width, pad_id_of(config, tokenizer), threads)
    if name in {*INT8_FOLDERS, "torch-fp32"}:
        from services.engine.torch import TorchEngine

        if device != "cpu":  # an id beyond the table would make the GPU unusable for the whole process
            check_vocabulary(config, tokenizer)
        return TorchEngine(
            folder, pooler, width, pad_id_of(config, tokenizer), threads, device, padded=padded
        )
    raise UnknownFormat(f"The engine {name!r} is unknown to this release: upgrade Fitloop.")


def _projection(folder: Path) -> tuple[Layer, ...]:
    path = folder / PROJECTION / FILE
    return read_head(path).layers if path.is_file() else ()
