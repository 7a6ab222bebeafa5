"""A run's URL, its request, and the methods that it tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.domain import Method
from services.core.errors import BadConfig, BadRequest
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.trainer.process import methods_of, parse_run_url, read_request


def test_run_url_splits_store_and_name(tmp_path: Path) -> None:
    store, name = parse_run_url(f"{tmp_path.as_uri()}/runs/x/runs/5-1")
    assert name == "5-1"
    assert store.url == f"{tmp_path.as_uri()}/runs/x"


@pytest.mark.parametrize(
    "url", ["file:///data", "5-1", "file:///data/runs/", "file:///data/runs/5-1/status.json"]
)
def test_refuses_urls_without_a_run(url: str) -> None:
    with pytest.raises(BadRequest, match="does not name a run"):
        parse_run_url(url)


def test_refuses_an_unknown_store() -> None:
    with pytest.raises(BadConfig):
        parse_run_url("ftp://data/runs/5-1")


def test_refuses_a_run_without_request(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="request.json is missing"):
        read_request(Runs(FileStore(tmp_path)), "5-1")


def test_auto_is_linear_probe_then_lp_ft() -> None:
    assert methods_of(Method.AUTO) == (Method.LINEAR_PROBE, Method.LP_FT)
    assert methods_of(Method.FINETUNE) == (Method.FINETUNE,)
