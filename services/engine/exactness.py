"""Whether int8 is exact enough on this processor, which may not be the one that the trainer compared it with fp32 on.

Processors without VNNI multiply int8 with other kernels. There an encoder is compared with itself once: the same weights,
computed in fp32. If int8 rounds too coarsely, fp32 serves: several times slower, four times the memory, no other file.
Figures: docs/decisions/0037.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from tokenizers import Tokenizer

from services.engine import processor
from services.engine.compute import Features, compute
from services.engine.ct2 import Ct2Engine
from services.engine.tokenise import encode

log = structlog.get_logger()
MIN_MEAN_COSINE: Final = 0.98
"""Of a text's features in int8 and in fp32; MiniLM has 0.997 with VNNI and 0.996 without."""
_TEXTS: Final = (
    "ok",
    "Thanks!",
    "When will my order arrive?",
    "my card was declined twice today",
    "Please cancel the subscription and refund the last payment.",
    "Das Paket ist beschädigt angekommen, ich möchte es zurückgeben.",
    "Je n'ai pas reçu la facture du mois dernier.",
    "¿Cómo cambio mi contraseña?",
    "The delivery was late, the box was open, and two of the three items were missing; nobody answered my calls.",
    "I have been a customer for ten years and this is the first time that something like this has happened. "
    * 4,
)
_chosen: dict[Path, str] = {}
"""What computes the models of these folders here."""


def open_ct2(open_as: Callable[[str], Ct2Engine], folder: Path, tokenizer: Tokenizer) -> Ct2Engine:
    """Return the engine in `folder`, opened in int8, or in fp32 if int8 is too coarse here. Raises EngineError.

    `open_as` opens it with one of CTranslate2's compute types.
    """
    if processor.has_vnni():
        return open_as("default")
    if chosen := _chosen.get(folder):
        return open_as(chosen)
    int8, fp32 = open_as("default"), open_as("float32")
    ids = encode(tokenizer, _TEXTS)
    cosine = mean_cosine(compute(int8, ids), compute(fp32, ids))
    is_exact = cosine >= MIN_MEAN_COSINE
    _chosen[folder] = "default" if is_exact else "float32"
    kept, closed = (int8, fp32) if is_exact else (fp32, int8)
    closed.close()
    log.info("int8_compared", cosine=round(cosine, 4), kept=kept.kind)
    return kept


def mean_cosine(one: Features, other: Features) -> float:
    """Return the mean cosine of the rows (texts, d) of both; 0 if a number is not finite."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = float(((one * other).sum(axis=1) / np.maximum(norms, 1e-12)).mean())
    return cosine if np.isfinite(cosine) else 0.0
