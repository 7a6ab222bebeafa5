"""Serving beside its peers: the same model and the same requests at each, in one run, in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.result import Options, Result
    from bench.rig import Rig


def run(options: Options, rig: Rig) -> Result:
    from bench.peers import compare  # noqa: PLC0415  # the client's process must not import torch

    return compare.run(options, rig)
