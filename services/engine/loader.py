"""A version's folder to a Model: the one place that chooses the engine, by what the manifest says.

torch and transformers (some seconds, some hundred MB) are imported only where the manifest asks for `torch-fp32`, or where
the device is a GPU: then every version is computed in bf16 from its fp32 weights.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from services.core.domain import Artefact
from services.core.errors import UnknownFormat
from services.engine.model import Model
from services.engine.protocol import Engine
from services.engine.tokenise import check_vocabulary, open_tokenizer, pad_id_of, read_config


def load_model(
    folder: Path,
    artefact: Artefact,
    labels: tuple[str, ...],
    streams: int,
    threads: int,
    device: str = "cpu",
) -> Model:
    """Load the version in `folder`, to be computed in `streams` batches at once by `threads` threads each, or on `cuda`.

    Raises EngineError, with a sentence, for whatever is wrong with the files, UnknownFormat for what a newer release
    has made; the caller runs `smoke_test`.
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

        if device != "cpu":  # an id beyond the table would end the whole process's use of the GPU
            check_vocabulary(config, tokenizer)
        pad_id = pad_id_of(config, tokenizer)
        return TorchEngine(folder, artefact.layout, labels, pad_id, threads, device, padded=artefact.padded)
    raise UnknownFormat(f"The engine {artefact.engine!r} is unknown to this release: upgrade Fitloop.")
