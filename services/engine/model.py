"""One version in memory, ready to answer: tokenizer, engine, labels, temperature; and how it is loaded from its folder.

Engines return raw logits, and `Model.scores` alone divides them by the manifest's temperature, which is 1.0 if the last
layer already contains it. torch and transformers (some seconds, some hundred MB) are imported only if the manifest asks for
`torch-fp32` or the device is a GPU, which computes every version in bf16 from its fp32 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from services.core.domain import Artefact
from services.core.errors import EngineError, UnknownFormat
from services.engine.compute import Engine, Logits, Scores, compute, softmax
from services.engine.tokenise import (
    check_vocabulary,
    encode,
    open_tokenizer,
    pad_id_of,
    read_config,
    truncation_length,
)

_SMOKE_TEXTS = ("ok", "When will my order arrive?", "", "Привет, мир! 你好 🙂", "a long text " * 40)


class Model:
    """Thread-safe; call `close` once no request uses it."""

    def __init__(
        self, labels: tuple[str, ...], engine: Engine, tokenizer: Tokenizer, temperature: float = 1.0
    ) -> None:
        self.labels = labels
        self.engine = engine
        self.temperature = temperature
        self.max_length = truncation_length(tokenizer)
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, at least one and at most `max_length` each."""
        return encode(self._tokenizer, texts)

    def logits_of(self, texts: Sequence[str]) -> Logits:
        """Compute logits (texts, labels) in this thread, for trainers and tests; servers use the Scheduler."""
        return compute(self.engine, self.encode(texts), len(self.labels))

    def scores(self, logits: Logits) -> Scores:
        """Return the calibrated probabilities of these logits."""
        return Scores(self.labels, softmax(logits, self.temperature))

    def smoke_test(self) -> None:
        """Raise EngineError unless a few fixed texts get finite logits, one for each label."""
        logits = self.logits_of(_SMOKE_TEXTS)
        if not np.isfinite(logits).all():
            raise EngineError("The model failed its smoke test: its logits are not finite.")

    def close(self) -> None:
        """Free the memory."""
        self.engine.close()


def load_model(
    folder: Path,
    artefact: Artefact,
    labels: tuple[str, ...],
    streams: int,
    threads: int,
    device: str = "cpu",
) -> Model:
    """Load the version in `folder`, to compute `streams` batches at once with `threads` threads each, or on `cuda`.

    The caller runs `smoke_test`. Raises EngineError if something is wrong with the files, UnknownFormat if a newer release
    made them.
    """
    tokenizer = open_tokenizer(folder, artefact.max_length)
    engine = _engine(folder, artefact, tokenizer, len(labels), streams, threads, device)
    return Model(labels, engine, tokenizer, artefact.temperature)


def _engine(
    folder: Path,
    artefact: Artefact,
    tokenizer: Tokenizer,
    labels: int,
    streams: int,
    threads: int,
    device: str,
) -> Engine:
    config = read_config(folder)
    if artefact.engine == "ct2-int8" and device == "cpu":
        from services.engine.ct2 import Ct2Engine

        check_vocabulary(config, tokenizer)
        return Ct2Engine(folder / "ct2", labels, streams, threads)
    if artefact.engine in {"ct2-int8", "torch-fp32"}:
        from services.engine.torch import TorchEngine

        if device != "cpu":  # an id beyond the table would make the GPU unusable for the whole process
            check_vocabulary(config, tokenizer)
        pad_id = pad_id_of(config, tokenizer)
        return TorchEngine(folder, artefact.layout, labels, pad_id, threads, device, padded=artefact.padded)
    raise UnknownFormat(f"The engine {artefact.engine!r} is unknown to this release: upgrade Fitloop.")
