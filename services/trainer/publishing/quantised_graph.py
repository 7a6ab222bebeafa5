"""An encoder as an ONNX graph with int8 products, for architectures that CTranslate2 cannot convert.

Figures, and why these architectures: docs/decisions/0053.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine.ort import GRAPH, INPUTS, OUTPUT
from services.engine.torch import forward

KINDS: Final = ("mpnet", "modernbert", "deberta-v2")
"""Architectures for which it was measured: at least 1.5 times as fast as torch in fp32."""
OPSET: Final = 18


class _HiddenStates(nn.Module):
    """(ids, mask) to the last layer's hidden states."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) twice, to (texts, tokens, d)."""
        return torch.as_tensor(forward(self.encoder, input_ids, attention_mask).last_hidden_state)


def convert_to_graph(encoder: Any, folder: Path) -> None:
    """Write the int8 graph of a loaded AutoModel, which stays as it is, to `folder`. Raises EngineError, OSError."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # Three lengths, because the exporter takes a dimension of 1 for a constant.
    ids = torch.ones((3, 7), dtype=torch.int64)
    mask = (torch.arange(7) < torch.tensor([[7], [5], [2]])).to(torch.int64)
    with tempfile.TemporaryDirectory(prefix="fitloop-onnx-", ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / GRAPH
        export(_HiddenStates(encoder).eval(), (ids, mask), path, OUTPUT)
        try:
            quantize_dynamic(path, folder / GRAPH, weight_type=QuantType.QInt8, per_channel=True)
        except Exception as error:  # it raises anything
            raise EngineError(f"ONNX Runtime cannot quantise it ({safe_reason(error)}).") from error


def export(graph: nn.Module, batch: Sequence[torch.Tensor], path: Path, output: str) -> None:
    """Write a graph from ids and mask, both (texts, tokens), to one output. Raises EngineError."""
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
    shapes: Mapping[str, Any] = {name: {0: texts, 1: tokens} for name in INPUTS}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            torch.onnx.export(
                graph,
                tuple(batch),
                str(path),
                input_names=list(INPUTS),
                output_names=[output],
                dynamo=True,
                dynamic_shapes=dict(shapes),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises anything
        raise EngineError(f"The model cannot be exported to ONNX: {safe_reason(error)}") from error
