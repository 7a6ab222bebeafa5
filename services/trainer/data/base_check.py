"""Try a base model on two texts before the work begins: whether it can be computed and trained on texts alone.

transformers has architectures that need boxes, pictures or kernels beside a text, that give no vector for each token, or
whose answers change with padding; what they raise says little to a person who chose the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from services.core.errors import BadConfig, FitloopError
from services.core.telemetry.logs import safe_traceback
from services.engine.torch import encoder_of, forward, pad_batch

LABELS = 2
SHORT = ""
"""The shortest text: only what the tokenizer adds."""
LONG = "When will my order arrive, and who brings it? I have been waiting for it since Friday."
MAX_TOKENS = 512
"""Tokens of the longest text that is tried; longer ones would take seconds on a CPU."""
_TOLERANCE = 1e-3
_MAX_DETAIL = 120
"""Characters of a library's message that may be quoted."""
_CODE = re.compile(r"`|[a-z][A-Z]|\w\(")
"""Names of classes and functions, which mean nothing to a person who chose a model."""
_NOT_TRAINED = (
    "Set METHOD to linear-probe, which leaves the model as it is, or BASELINE_MODEL_NAME to a model of another architecture, "
    "such as bert, roberta or modernbert: docs/base-models.md lists what works."
)
_PROBE_INSTEAD = (
    "Set METHOD to linear-probe or lp-ft, or BASELINE_MODEL_NAME to a model of another architecture, such as bert, roberta or "
    "modernbert: docs/base-models.md lists what works."
)
log = structlog.get_logger()
Compute = Callable[[list[list[int]]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class ModelErrors:
    """The errors of one base model, which name it and say what to choose instead."""

    name: str
    """As in the settings."""
    architecture: str
    """`model_type` of its config.json."""

    def unsupported(self, why: str, advice: str = "") -> BadConfig:
        """Return the error that says why the architecture cannot be used."""
        return BadConfig(
            f"The base model {self.name!r} cannot be used: its architecture, {self.architecture}, {why}. "
            + (
                advice
                or "Set BASELINE_MODEL_NAME to a model of another one, such as bert, roberta, deberta-v2 or modernbert: "
                "docs/base-models.md lists what works."
            )
        )

    @contextmanager
    def translate(self, to: str, advice: str = "") -> Iterator[None]:
        """Turn whatever a library raises within into a BadConfig; the log has the stack trace."""
        try:
            yield
        except FitloopError:
            raise
        except Exception as error:
            if is_hardware_failure(error):
                raise
            raise self.failed(to, error, advice) from error

    def failed(self, to: str, error: BaseException, advice: str = "") -> BadConfig:
        """Return the BadConfig for what a library raised, and log its stack trace."""
        log.warning("base_model_failed", architecture=self.architecture, frames=safe_traceback(error))
        if is_out_of_memory(error):
            return BadConfig(
                f"The memory was too small for the base model {self.name!r} to {to}: give the trainer more, or set a smaller "
                "BASELINE_MODEL_NAME or FITLOOP_MAX_LENGTH."
            )
        return self.unsupported(f"failed to {to}{_detail(error)}", advice)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the check found of a model."""

    width: int
    """Dimensions of a token's vector."""
    padded: bool
    """Whether texts of different lengths may share a batch."""


def check_encoder(
    subject: ModelErrors, model: Any, rows: list[list[int]], pad_id: int, *, trains: bool
) -> Capabilities:
    """Compute token vectors of `rows`, a short text and a long one. Raises BadConfig."""

    def vectors(ids: list[list[int]]) -> torch.Tensor:
        tokens, mask = pad_batch(ids, pad_id)
        hidden = forward(encoder_of(model), tokens, mask).last_hidden_state
        if hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
            raise subject.unsupported("gives no vector for each token of a text")
        return mean_pooled(hidden, mask)

    with subject.translate("read a text"):
        found = _compute_alone_and_padded(subject, vectors, rows)
    if trains:
        with subject.translate("be trained", _NOT_TRAINED):
            _backward(model, lambda: vectors(rows[1:]).square().mean())
    return Capabilities(int(found[0].shape[1]), found[1])


def check_classifier(subject: ModelErrors, model: Any, rows: list[list[int]], pad_id: int) -> bool:
    """Classify and train on `rows`; return whether they may share a batch. Raises BadConfig."""

    def logits(ids: list[list[int]]) -> torch.Tensor:
        output: torch.Tensor = forward(model, *pad_batch(ids, pad_id)).logits
        if output.shape != (len(ids), LABELS):
            raise subject.unsupported("gives no answer for each text", _PROBE_INSTEAD)
        return output

    with subject.translate("classify a text", _PROBE_INSTEAD):
        _, shared = _compute_alone_and_padded(subject, logits, rows)
    with subject.translate("be trained", _NOT_TRAINED):
        _backward(model, lambda: cross_entropy(logits(rows[1:]), torch.tensor([0])))
    return shared


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average hidden states (texts, tokens, d) over the tokens in `mask` and normalise: (texts, d)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    normalised: torch.Tensor = mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return normalised


def is_hardware_failure(error: BaseException) -> bool:
    """Return whether the GPU or the network between processes failed: another model would not help."""
    return isinstance(error, (torch.AcceleratorError, torch.distributed.DistError)) and not is_out_of_memory(
        error
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was exhausted, on a GPU or a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def no_classifier(subject: ModelErrors) -> BadConfig:
    """Return the error of an architecture that transformers cannot classify with."""
    return subject.unsupported("cannot be fine-tuned to classify texts (METHOD=finetune)", _PROBE_INSTEAD)


def _compute_alone_and_padded(
    subject: ModelErrors, compute: Compute, rows: list[list[int]]
) -> tuple[torch.Tensor, bool]:
    """Return the answers for the rows, and whether padding leaves them unchanged."""
    with torch.inference_mode():
        together, alone, again = compute(rows), compute(rows[:1]), compute(rows[:1])
    if not (together.isfinite().all() and alone.isfinite().all()):
        raise subject.unsupported("answers numbers that are not finite")
    largest = float(alone.abs().max()) or 1.0
    if float((alone - again).abs().max()) > _TOLERANCE * largest:
        raise subject.unsupported("answers the same text differently each time")
    return together, float((together[:1] - alone).abs().max()) <= _TOLERANCE * largest


def _backward(model: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
    """Run one backward pass and drop its gradients."""
    model.train()
    try:
        loss().backward()
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()


def _detail(error: BaseException) -> str:
    """Return the library's message if it is meant for people."""
    text = str(error)
    if isinstance(error, ImportError):
        named = re.search(r"requires the (\S+) library", text)
        library = f"the library {named[1]}" if named else "a library"
        return f": it needs {library}, which is not installed"
    if not isinstance(error, (ValueError, NotImplementedError)):
        return ""
    message = (
        next((line.strip() for line in text.splitlines() if line.strip()), "").partition(". ")[0].rstrip(".")
    )
    return "" if not message or len(message) > _MAX_DETAIL or _CODE.search(message) else f" ({message})"
