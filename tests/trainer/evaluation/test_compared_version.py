"""The version that a new one is compared with: what will be served when it is decided on."""

from __future__ import annotations

import pytest

from services.core import documents
from services.core.domain import Served
from services.core.registry import Registry
from services.trainer.evaluation import current_for
from tests.support.manifests import build_manifest
from tests.support.store import MemoryStore

KEY = "1-1"


@pytest.fixture
def registry() -> Registry:
    made = Registry(MemoryStore())
    for version in ("v-1", "v-2"):
        manifest = documents.dump(build_manifest(version))
        made.store.write(f"projects/{KEY}/versions/{version}/manifest.json", manifest)
    return made


@pytest.mark.parametrize(
    ("served", "compared"),
    [
        (Served(), None),
        (Served(current="v-1"), "v-1"),
        (Served(current="v-1", target="v-2"), "v-2"),
        (Served(target="v-2"), "v-2"),
        (Served(current="v-1", target="deleted"), "v-1"),
        (Served(current="deleted"), None),
    ],
)
def test_target_precedes_the_current_version(
    registry: Registry, served: Served, compared: str | None
) -> None:
    found = current_for(registry, KEY, served, None)
    assert (found.version if found else None) == compared
