"""int8 is compared with fp32 once on a processor without VNNI, and replaced where it rounds too coarsely."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest

from services.engine import exactness, processor
from services.engine.compute import Features, TokenIds
from services.engine.ct2 import Ct2Engine
from services.engine.encoder import TextEncoder, load_encoder
from services.engine.exactness import mean_cosine
from services.engine.loading import Load
from tests.support.base_models import TEXTS
from tests.support.encoders import build_tiny_encoder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The compute types that models were opened with, on a processor without VNNI."""
    seen, original = list[str](), ctranslate2.Encoder

    def recording(*arguments: Any, **options: Any) -> Any:
        seen.append(options["compute_type"])
        return original(*arguments, **options)

    monkeypatch.setattr(ctranslate2, "Encoder", recording)
    monkeypatch.setattr(processor, "has_vnni", lambda: False)
    monkeypatch.setattr(exactness, "_chosen", {})
    return seen


def open_encoder(folder: Path) -> TextEncoder:
    manifest = build_tiny_encoder(folder)
    return load_encoder(folder, manifest, 1, 1)


def test_exact_int8_is_kept_and_compared_once(tmp_path: Path, opened: list[str]) -> None:
    encoder = open_encoder(tmp_path / "encoder")
    assert encoder.engine.kind == "ct2-int8"
    assert opened == ["default", "float32"]
    encoder.features_of(TEXTS)
    open_encoder(tmp_path / "encoder")
    assert opened == ["default", "float32", "default"]


def test_coarse_int8_is_replaced_by_fp32(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = open_encoder(tmp_path / "encoder").features_of(TEXTS)
    exactness._chosen.clear()
    forward = Ct2Engine.forward

    def coarse(engine: Ct2Engine, batch: Sequence[TokenIds]) -> Features:
        found = forward(engine, batch)
        return found if engine.kind == "ct2-fp32" else np.roll(found, 1, axis=1)

    monkeypatch.setattr(Ct2Engine, "forward", coarse)
    encoder = open_encoder(tmp_path / "encoder")
    assert encoder.engine.kind == "ct2-fp32"
    np.testing.assert_allclose(encoder.features_of(TEXTS), exact, atol=0.05)
    open_encoder(tmp_path / "encoder")
    assert opened[2:] == ["default", "float32", "float32"]
    assert Load(100, lambda: encoder).size_of(encoder) == 400, (
        "int8 weights take four times their file in fp32"
    )


def test_nothing_is_compared_with_vnni(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "has_vnni", lambda: True)
    assert open_encoder(tmp_path / "encoder").engine.kind == "ct2-int8"
    assert opened == ["default"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_vnni", True), ("fpu avx_vnni", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_vnni_is_read_from_the_flags(tmp_path: Path, flags: str, *, expected: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor: 0\nflags\t\t: {flags}\n")
    assert processor.has_vnni(cpuinfo) is expected
    assert not processor.has_vnni(tmp_path / "missing")


def test_mean_cosine() -> None:
    one = np.array([[1, 0], [0, 2]], np.float32)
    assert mean_cosine(one, one) == pytest.approx(1)
    assert mean_cosine(one, np.array([[0, 1], [0, 1]], np.float32)) == pytest.approx(0.5)
    assert mean_cosine(one, np.full((2, 2), np.nan, np.float32)) == 0
