"""Manifests are read once, and those that cannot be read once in a while."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from services.adapter.serving.manifest_cache import ManifestCache, Origin
from services.core.domain import Manifest, Method
from services.core.errors import CorruptVersion, NotFound, StoreError, StoreUnreachable, UnknownFormat
from services.core.registry import Registry
from tests.support.fakes import LABELS
from tests.support.manifests import build_manifest
from tests.support.store import MemoryStore


@dataclass(frozen=True, slots=True)
class FakeRegistry(Registry):
    """Manifests, or why they cannot be read; counts the attempts."""

    found: dict[str, Manifest | StoreError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def manifest(self, project_key: str, version: str) -> Manifest:
        self.asked.append(version)
        found = self.found[version]
        if isinstance(found, StoreError):
            raise found
        assert found.project_key == project_key
        return found


class World:
    """A cache with its clock."""

    def __init__(self, **found: Manifest | StoreError) -> None:
        self.now = 1000.0
        self.registry = FakeRegistry(MemoryStore(), found)
        self.cache = ManifestCache(self.registry, "5-1", lambda: self.now)


TRAINED = build_manifest("v", "5-1", LABELS)


@pytest.mark.parametrize(
    ("found", "origin"),
    [
        (TRAINED, Origin.LABELS),
        (replace(TRAINED, method=Method.ZERO_SHOT), Origin.NAMES),
        (NotFound("gone"), Origin.LOST),
        (CorruptVersion("broken"), Origin.LOST),
        (StoreUnreachable("no answer"), Origin.UNKNOWN),
        (UnknownFormat("newer"), Origin.LABELS),
    ],
)
def test_origin_tells_lost_from_not_read(found: Manifest | StoreError, origin: Origin) -> None:
    world = World(v=found)
    assert [world.cache.origin("v") for _ in range(5)] == [origin] * 5
    assert world.registry.asked == ["v"]


@pytest.mark.parametrize(
    ("error", "pause"), [(StoreUnreachable("no answer"), 10.0), (CorruptVersion("broken"), 60.0)]
)
def test_unreadable_manifest_is_read_again_after_a_pause(error: StoreError, pause: float) -> None:
    world = World(v=error)
    for seconds in (0.0, pause - 1, 0.5, 0.6):
        world.now += seconds
        with pytest.raises(type(error)):
            world.cache.read("v")
    assert len(world.registry.asked) == 2
    world.registry.found["v"] = TRAINED
    assert world.cache.find("v") is None
    world.now += pause + 1
    assert world.cache.read("v").version == TRAINED.version
    assert len(world.registry.asked) == 3


def test_forgotten_versions_are_read_anew() -> None:
    world = World(v=NotFound("gone"))
    assert world.cache.find("v") is None
    world.cache.keep(set())
    assert world.cache.find("v") is None
    assert world.registry.asked == ["v", "v"]
