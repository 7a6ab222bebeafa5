"""core.documents: what was written comes back; newer and broken documents are refused with a sentence."""

from __future__ import annotations

import json

import pytest

from services.core import documents
from services.core.domain import Manifest, Serving
from services.core.errors import StoreError, UnknownFormat
from tests.support.manifests import build_manifest


def test_a_document_comes_back_as_it_was() -> None:
    written = documents.dump(build_manifest("v-1"))
    assert documents.load(Manifest, written, "manifest.json") == build_manifest("v-1")
    assert json.loads(written) == documents.to_plain(build_manifest("v-1"))


def test_a_document_without_later_fields_is_read() -> None:
    assert documents.load(Serving, b"{}", "serving.json") == Serving()


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(UnknownFormat, match=r"serving.json has format 2.*upgrade"):
        documents.load(Serving, b'{"format": 2}', "serving.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"term": "x"}', b"\xff\xfe"])
def test_a_broken_document_is_a_store_error(data: bytes) -> None:
    with pytest.raises(StoreError, match="serving.json is not a readable Serving"):
        documents.load(Serving, data, "serving.json")
