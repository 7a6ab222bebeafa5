"""Every architecture of transformers works as a base model, or is refused with a sentence; docs/base-models.md says which.

A trainer that ends with anything but a version or exit 78 fails the test of that architecture.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import pytest

from services.core.domain import Method
from tests.support import architectures
from tests.support.architectures import Outcome

PAGE = Path(__file__).parents[3] / "docs" / "base-models.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures")


@cache
def _tried(folder: Path, architecture: str) -> dict[Method, Outcome]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about configs as small as these
        return architectures.tried(architecture, folder / architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", architectures.architectures())
def test_an_architecture_works_or_is_refused_with_a_reason(folder: Path, architecture: str) -> None:
    for outcome in _tried(folder, architecture).values():
        assert outcome.engine in {"int8", "torch fp32"} or outcome.why


@pytest.mark.slow
def test_docs_list_every_architectures_result(folder: Path) -> None:
    found = {name: _tried(folder, name) for name in architectures.architectures()}
    assert PAGE.read_text(encoding="utf-8") == architectures.table(found), "run `make docs` and commit it"


@pytest.mark.parametrize(
    ("architecture", "engine"),
    [("bert", "int8"), ("gpt2", "torch fp32"), ("t5", "torch fp32"), ("qwen2", "torch fp32")],
)
def test_common_architectures_work(folder: Path, architecture: str, engine: str) -> None:
    found = _tried(folder, architecture)
    assert {outcome.engine for outcome in found.values()} == {engine}
