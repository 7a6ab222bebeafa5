"""The leader deletes encoders that nothing needs, while runs, sweeps and deletions go on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from services.adapter.leader.encoder_report import build_statuses, project_problem
from services.adapter.leader.encoder_uses import KnownUses
from services.adapter.leader.encoders import EncoderCollector
from services.adapter.state.encoder_status import EncoderStatusReader
from services.adapter.state.project_state import EncoderReferences
from services.adapter.training.encoders import Fate, ProjectUse
from services.adapter.training.retention import encoder_references
from services.core.encoders import Encoders
from services.core.errors import EncoderDeleted, NotFound, StoreError
from services.core.registry import Registry
from tests.support.controller import ControllerWorld
from tests.support.encoders import publish_head, publish_stub_encoder
from tests.support.store import Killed, MemoryStore
from tests.support.workers import InlineWorkers

DAY, HOUR = 86_400.0, 3600.0
DIGESTS = ("aa" * 32, "bb" * 32)
ALIASES = tuple(f"encoders/base-{one * 8}.json" for one in ("aa", "bb"))


@dataclass
class SimulatedProject:
    """A project, and its run: when it was requested, and the encoder that it has found."""

    key: str
    references: EncoderReferences | None = None
    has_unswept: bool = False
    requested_at: float | None = None
    digest: str = ""
    versions: int = 0


@dataclass
class EncoderWorld:
    """Two projects whose runs make and use two encoders, and the leader."""

    store: MemoryStore = field(default_factory=MemoryStore)
    now: float = 1_795_500_000.0
    default_base: str = "another"

    def __post_init__(self) -> None:
        self.store.clock = lambda: self.now
        self.registry, self.encoders = Registry(self.store), Encoders(self.store)
        self.projects = [SimulatedProject("5-1"), SimulatedProject("6-1")]
        self.restart()

    def restart(self) -> None:
        """Replace the leader, which knows what the sweeps have found."""
        self.leader_store = MemoryStore(self.store.data)
        self.leader_store.clock, self.leader_store.modified = self.store.clock, self.store.modified
        self.workers = InlineWorkers()
        self.collector = EncoderCollector(self.leader_store, self.workers, self.known, lambda: self.now)

    def known(self) -> KnownUses:
        uses = [
            ProjectUse(one.key, one.references, one.has_unswept, one.requested_at) for one in self.projects
        ]
        return KnownUses(tuple(uses), "", self.default_base)

    def wait(self, hours: float) -> None:
        self.now += hours * HOUR

    def start_run(self, project: int, base: int) -> None:
        """Request a run, which finds the encoder of its base model by the alias, or makes it."""
        one = self.projects[project]
        if one.requested_at is None:
            one.requested_at = self.now
            one.digest = DIGESTS[base]
            if ALIASES[base] not in self.store.data or not self.encoders.exists(one.digest):
                self.make(base)

    def make(self, base: int) -> None:
        """Do what a run does that has read its base model."""
        publish_stub_encoder(self.registry, DIGESTS[base])
        document = {"digest": DIGESTS[base], "base_model": f"base-{base}"}
        self.store.write(ALIASES[base], json.dumps(document).encode())

    def end_run(self, project: int) -> bool:
        """Publish a version, and end the run; return whether its encoder was there."""
        one = self.projects[project]
        if one.requested_at is None:
            return True
        one.versions += 1
        try:
            publish_head(self.registry, one.digest, f"v{one.versions}", one.key)
        except EncoderDeleted:
            return False
        finally:
            one.requested_at, one.has_unswept = None, True
        return True

    def sweep(self, project: int) -> None:
        one = self.projects[project]
        manifests, unreadable = self.registry.all_manifests(one.key)
        one.references, one.has_unswept = encoder_references(manifests, unreadable, self.now), False

    def delete_versions(self, project: int) -> None:
        for version in self.registry.version_names(self.projects[project].key):
            self.registry.delete(self.projects[project].key, version)

    def collect(self, *, dry_run: bool = False) -> None:
        """Let the leader make a pass."""
        self.collector.begin(self.now, dry_run=dry_run)
        while self.workers.deliver():
            pass

    def night(self) -> None:
        """Do all that happens daily."""
        self.wait(25)
        self.sweep(0)
        self.sweep(1)
        self.collect()

    def check(self) -> None:
        """Assert that no version lacks its encoder."""
        for one in self.projects:
            for manifest in self.registry.manifests(one.key):
                assert self.encoders.exists(manifest.encoder)

    def fates(self) -> dict[str, Fate]:
        return {one.encoder.digest: one.fate for one in self.collector.decisions}


@pytest.fixture
def world() -> EncoderWorld:
    """Two projects that were swept, and an encoder that is two days old and that no version names."""
    world = EncoderWorld()
    world.make(0)
    world.wait(48)
    world.sweep(0)
    world.sweep(1)
    return world


def test_unused_encoder_is_deleted_after_a_day(world: EncoderWorld) -> None:
    world.collect()
    assert ALIASES[0] not in world.store.data
    assert world.encoders.retired_at(DIGESTS[0]) == world.now
    world.wait(25)
    world.collect()
    assert world.fates() == {DIGESTS[0]: Fate.WAITING}, "the projects were not swept since"
    world.sweep(0)
    world.sweep(1)
    world.collect()
    assert list(world.store.keys("encoders/")) == []


def test_a_dry_run_changes_nothing(world: EncoderWorld) -> None:
    before = dict(world.store.data)
    world.collect(dry_run=True)
    assert world.fates() == {DIGESTS[0]: Fate.RETIRED}
    assert world.store.data == before


def test_an_encoder_in_use_stays(world: EncoderWorld) -> None:
    world.start_run(0, 0)
    world.end_run(0)
    world.sweep(0)
    world.collect()
    assert world.fates() == {DIGESTS[0]: Fate.KEPT}


def test_a_run_that_found_it_before_delays_deletion(world: EncoderWorld) -> None:
    world.start_run(0, 0)
    world.collect()
    for _ in range(3):
        world.wait(30)
        world.sweep(0)
        world.sweep(1)
        world.collect()
    assert world.encoders.exists(DIGESTS[0])
    assert world.end_run(0)
    world.collect()
    world.check()
    world.sweep(0)
    world.collect()
    assert world.fates() == {DIGESTS[0]: Fate.KEPT}
    assert world.encoders.retired_at(DIGESTS[0]) is None


def test_a_run_that_makes_it_anew_keeps_it(world: EncoderWorld) -> None:
    world.collect()
    world.wait(30)
    world.sweep(0)
    world.sweep(1)
    world.workers.held.add("encoders")
    world.collector.begin(world.now, dry_run=False)
    world.workers.release()  # the leader has not seen yet what was listed
    world.start_run(0, 0)
    while world.workers.deliver():
        pass
    assert world.encoders.exists(DIGESTS[0])
    assert world.end_run(0)
    world.check()


def test_a_run_publishes_it_again_while_files_are_deleted(world: EncoderWorld) -> None:
    world.collect()
    world.wait(30)
    world.sweep(0)
    world.sweep(1)
    world.collector.begin(world.now, dry_run=False)
    world.workers.held.add("encoders")
    world.workers.deliver()
    assert not world.encoders.exists(DIGESTS[0]), "its manifest is deleted, its files are not yet"
    upload, first = world.store.upload, iter([True])

    def uploading(source: Path, key: str) -> None:
        upload(source, key)
        if next(first, False):
            world.workers.release()  # the files that were listed are deleted

    world.store.upload = uploading  # type: ignore[method-assign]
    world.start_run(0, 0)
    found = world.encoders.manifest(DIGESTS[0])
    assert {f"encoders/{DIGESTS[0]}/{name}" for name in found.files} <= world.store.data.keys()


def test_projects_that_are_not_connected_count(world: EncoderWorld) -> None:
    publish_head(world.registry, DIGESTS[0], "old", "7-1")
    world.collect()
    assert world.fates() == {DIGESTS[0]: Fate.KEPT}
    reads = world.leader_store.read
    read = list[str]()

    def reading(key: str) -> bytes:
        read.append(key)
        return reads(key)

    world.leader_store.read = reading  # type: ignore[method-assign]
    world.collect()
    assert not any(key.startswith("projects/") for key in read), "they are read once a day"


def test_an_unreadable_manifest_blocks_all_deletions(world: EncoderWorld) -> None:
    world.store.write("projects/7-1/versions/broken/manifest.json", b"{")
    world.collect()
    (decision,) = world.collector.decisions
    assert (decision.fate, decision.why) == (
        Fate.WAITING,
        "7-1/broken cannot be read and may need it: restore or delete what is broken",
    )


def test_a_store_error_is_retried(world: EncoderWorld) -> None:
    world.leader_store.away = StoreError("The bucket does not answer.")
    world.collect()
    assert world.collector.problem == "The bucket does not answer"
    world.leader_store.away = None
    world.collect()
    assert world.collector.problem == ""
    assert world.fates() == {DIGESTS[0]: Fate.RETIRED}


@pytest.mark.parametrize("after", range(1, 6))
def test_interrupted_deletion_is_continued(world: EncoderWorld, after: int) -> None:
    for _ in range(3):
        world.leader_store.fail_at = world.leader_store.changes + after
        with pytest.raises((Killed, AssertionError)):  # noqa: PT012
            world.collect()
            raise AssertionError
        world.restart()
        world.wait(30)
        world.sweep(0)
        world.sweep(1)
    for _ in range(3):
        world.collect()
        world.wait(30)
        world.sweep(0)
        world.sweep(1)
    assert list(world.store.keys("encoders/")) == []


_OPERATIONS: tuple[tuple[object, ...], ...] = (
    *(("night",),) * 6,
    *(("start_run", 0, 0), ("end_run", 0)) * 2,
    ("start_run", 1, 0),
    ("start_run", 1, 1),
    ("end_run", 1),
    ("sweep", 0),
    ("delete_versions", 0),
    ("delete_versions", 1),
    ("wait", 0.5),
    ("wait", 25.0),
    ("collect",),
    ("restart",),
)


@settings(max_examples=200, deadline=None)
@given(some.lists(some.sampled_from(_OPERATIONS), min_size=10, max_size=30))
def test_no_version_ever_lacks_its_encoder(operations: list[tuple[object, ...]]) -> None:
    world = EncoderWorld()
    for name, *arguments in operations:
        done = getattr(world, str(name))(*arguments)
        assert done is not False, "a run finds what it has found before"
        world.check()


def test_publishing_without_the_encoder_is_refused(world: EncoderWorld) -> None:
    with pytest.raises(EncoderDeleted, match="encoder bbbbbbbbbbbb of version v1 was deleted meanwhile"):
        publish_head(world.registry, DIGESTS[1], "v1")
    with pytest.raises(NotFound):
        world.registry.manifest("5-1", "v1")
    assert world.registry.version_names("5-1") == []


def test_status_names_versions_without_their_encoder() -> None:
    world = ControllerWorld.serving()
    publish_stub_encoder(world.registry, DIGESTS[0], "minilm")
    key = world.view.project.key
    publish_head(world.registry, DIGESTS[0], "head-1", key, created_at=world.now)
    world.now += DAY
    world.settle()  # the daily sweep sees what the version needs
    world.settle()
    (found,) = EncoderStatusReader(world.store).read()
    assert (found.base_model, found.needed, found.versions) == ("minilm", 1, (f"{key}/head-1",))
    assert (found.problem, found.fate, world.view.problem) == ("", "kept", "")
    whole = world.store.data.pop(f"encoders/{DIGESTS[0]}/model.safetensors")
    world.settle()
    assert "Version head-1 cannot be loaded: encoder aaaaaaaaaaaa is damaged" in world.view.problem
    Encoders(world.store).delete(DIGESTS[0])
    world.settle()
    assert "encoder aaaaaaaaaaaa is not in the bucket: restore encoders/" in world.view.problem
    (found,) = EncoderStatusReader(world.store).read()
    assert (found.size, found.versions) == (0, (f"{key}/head-1",))
    assert world.current == "support-1"
    publish_stub_encoder(world.registry, DIGESTS[0], "minilm")
    assert world.store.data[f"encoders/{DIGESTS[0]}/model.safetensors"] == whole
    world.settle()
    assert world.view.problem == ""


def test_the_served_versions_encoder_is_checked_before_any_sweep() -> None:
    use = ProjectUse("5-1", None, served=frozenset({DIGESTS[0]}))
    (found,) = build_statuses((), (use,))
    assert project_problem(use, {found.digest: found.problem}).startswith(
        "The served version cannot be loaded: encoder aaaaaaaaaaaa is not in the bucket"
    )
