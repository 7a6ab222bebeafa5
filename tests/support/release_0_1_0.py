"""The bucket that release 0.1.0 left, with the Label Studio that it served; see tests/fixtures/release-0.1.0/README.md."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Final

from services.core.domain import Snapshot
from services.core.inbox import Inbox
from services.core.labels import parse_label_space, signature
from services.core.labelstudio import Backend
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings, StorageSettings, TrainingSettings, TriggerSettings
from services.core.store import ObjectStore
from services.core.store.files import FileStore
from tests.support.controller import ControllerWorld
from tests.support.fakes import FakeLauncher
from tests.support.labelstudio import FakeLabelStudio

_ARCHIVE: Final = Path(__file__).parents[1] / "fixtures/release-0.1.0/bucket.tar.xz"


def unpack(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Unpack the archive; return the bucket's folder, and what Label Studio had."""
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "bucket", json.loads((folder / "label-studio.json").read_text())


def settings_of_then() -> Settings:
    """Return the settings with which the bucket was made."""
    return Settings(
        trigger=TriggerSettings(
            every_n_updates=6, debounce_seconds=2.0, reconcile_seconds=15.0, embed_seconds=0.0
        ),
        training=TrainingSettings(base_model="/srv/models/tiny", max_length=32),
        storage=StorageSettings(keep_versions=3, keep_days=0.0, keep_runs_days=365.0),
    )


def upgraded_world(folder: Path, *, in_memory: bool) -> ControllerWorld:
    """Build a world of this release on a copy of that bucket, in memory or in `folder`; no tick has been made."""
    bucket, known = unpack(folder)
    world = ControllerWorld(settings_of_then())
    if in_memory:
        files = [path for path in bucket.rglob("*") if path.is_file()]
        world.store.data.update({path.relative_to(bucket).as_posix(): path.read_bytes() for path in files})
    else:
        _use(world, FileStore(bucket))
    fill(world.label_studio, known)
    world.now = float(known["now"])
    world.launcher.active.add(known["active"])
    return world


def _use(world: ControllerWorld, store: ObjectStore) -> None:
    world.store = world.leader_store = store  # type: ignore[assignment]  # an ObjectStore, too
    world.registry, world.runs, world.inbox = Registry(store), Runs(store), Inbox(store)
    world.launcher = FakeLauncher(store)
    world.restart()


def end_with_snapshot(world: ControllerWorld, run: str) -> str:
    """Let the trainer of 0.1.0 carry the run through; return the version that it published."""
    request = world.runs.request(run)
    assert request
    project, _ = world.label_studio.project(request.project_id)
    rows = world.label_studio.annotated_tasks(request.project_id)
    tasks = {str(row["id"]): sign for row in rows if (sign := signature(row["annotations"]))}
    labels = parse_label_space(project.label_config).labels
    world.runs.write_snapshot(run, Snapshot(tasks, project.label_config_hash, labels, world.now))
    version = world.train(run)
    world.end(run)
    return version


def fill(label_studio: FakeLabelStudio, known: dict[str, Any]) -> None:
    """Give Label Studio the projects, tasks and annotations that it had."""
    label_studio.ticks = known["ticks"]
    label_studio.predictions = known["predictions"]
    for number, labels in known["labels"].items():
        project = int(number)
        label_studio.labels[project] = tuple(labels)
        label_studio.created[project] = known["created"][number]
        label_studio.tasks[project] = {int(task): row for task, row in known["tasks"][number].items()}
        label_studio.backend_rows[project] = [Backend(**row) for row in known["titles"][number]]
