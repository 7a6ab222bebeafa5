"""Documents that release 0.1.0 wrote, before a control was named in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.core import documents
from services.core.domain import (
    Action,
    Artefact,
    Command,
    Estimate,
    GateDecision,
    Lineage,
    Manifest,
    Method,
    Parameters,
    RunRequest,
    Snapshot,
)

_PARAMETERS = Parameters()
_LINEAGE = Lineage("1-1", (), "", "", "base", "", "", _PARAMETERS, None, 9, trained_on_everything=True)
_MANIFEST = Manifest("v-1", "1-1", Method.LINEAR_PROBE, ("a", "b"), Artefact("", "", "", 256, 1.0), Estimate(1, 1, 0.0, 1.0, 1.0, ""), GateDecision(True, "first", ()), _LINEAGE, 1.0)  # fmt: skip


def _without_controls(found: Any) -> Any:
    if isinstance(found, dict):
        return {
            key: _without_controls(one)
            for key, one in found.items()
            if key not in {"control", "from_name", "asked_by"}
        }
    return found


@pytest.mark.parametrize(
    "document",
    [RunRequest("1-1", "1-1", 1, "test", _PARAMETERS, 1.0), Command("1", 1, Action.ROLLBACK, "v-1"), Snapshot({"1": "x"}, "hash", ("a", "b"), 1.0), _MANIFEST],
    ids=lambda document: type(document).__name__,
)  # fmt: skip
def test_documents_that_name_no_control_are_read(document: Any) -> None:
    before = json.dumps(_without_controls(documents.to_plain(document))).encode()
    assert b"control" not in before
    assert b"asked_by" not in before
    assert documents.load(type(document), before, "key") == document
