"""A run of method `label-studio-ml`: a class of the operator's trains in a process of its own, and what it leaves becomes a version.

Its MODEL_DIR starts as a copy of the current version's files. Whatever the class does wrong ends the run with one sentence, and the
version that is served stays.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from services.core.domain import Manifest, Parameters, Project, Served
from services.core.runs import version_name
from services.core.settings import Settings
from services.mlbackend.folders import write_folder
from services.mlbackend.model_class import ModelClass, worker_settings
from services.mlbackend.process import WorkerProcess
from services.trainer.data.labels import read_project
from services.trainer.evaluation import current_for, is_requested_by_person
from services.trainer.own_model.files import check_size, contents
from services.trainer.own_model.judging import Judge
from services.trainer.own_model.trial import TaskSource
from services.trainer.own_model.version import OwnVersion
from services.trainer.process import Run, published_before, published_from

log = structlog.get_logger()
EVENT: Final = "START_TRAINING"
_PASSED_ON: Final = ("learning_rate", "num_train_epochs", "weight_decay", "seed")
"""Run parameters that `fit` gets as keyword arguments, where they are not the defaults."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `fit` has done."""

    began: float
    """0 if the class has none."""
    result: Mapping[str, Any]
    is_changed: bool
    """Whether it changed MODEL_DIR, or is the first run of a class that only predicts."""


def train_own_model(run: Run, settings: Settings, source: TaskSource) -> None:
    """Have the class train, try what it left, and publish it. Raises ModelClassError, BadData and what any run raises."""
    run.progress.stage("reading")
    project, _ = read_project(run)
    if before := published_before(run, project):
        run.progress.restore_published(tuple(map(published_from, before)))
        return
    served = run.registry.serving().projects.get(project.key, Served())
    current = current_for(run.registry, project.key, served, None)
    with tempfile.TemporaryDirectory(prefix="fitloop-version-", ignore_cleanup_errors=True) as path:
        version = OwnVersion(run, project, Path(path), _name(run, project))
        same = current if current and is_of(current, run.request.parameters) else None
        _copy(run, same, version.files)
        fitted = _fit(run, project, settings, version.files, source, same)
        if not fitted.is_changed:
            run.progress.set_message(_unchanged(run.request.parameters.model, same))
            return
        check_size(version.files, settings.own_model.files_mb, str(run.request.parameters.model))
        run.progress.stage("judging")
        judge = Judge(run, project, source, worker_settings(settings))
        verdict = judge.judge(version, current, fitted.began, requested=is_requested_by_person(run.request))
        manifest = version.publish(verdict, fitted.began, fitted.result, current)
    run.progress.add_published(published_from(manifest, served.current if served.pinned else None))


def is_of(manifest: Manifest, parameters: Parameters) -> bool:
    """Return whether a version is of the class that a run is to train, which can continue with its files."""
    return manifest.own_model is not None and manifest.own_model.model == parameters.model


def event_data(row: Mapping[str, Any], project_id: int) -> dict[str, Any]:
    """Return what Label Studio sends with START_TRAINING, and the annotation's project, which some classes read for every event."""
    return {"project": {**row, "id": project_id}, "annotation": {"project": project_id}, "id": project_id}


def _name(run: Run, project: Project) -> str:
    return version_name(project, run.request.parameters.model_name, run.name)


def _copy(run: Run, current: Manifest | None, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if current:
        write_folder(run.registry, current, folder)


def _fit(
    run: Run, project: Project, settings: Settings, folder: Path, source: TaskSource, current: Manifest | None
) -> Fitted:
    """Call `fit`, without a deadline but the run's own. What `setup` writes is no change: it does so in every process."""
    parameters = run.request.parameters
    spec = ModelClass(str(parameters.model), project.id, project.label_config)
    run.progress.stage("loading")
    with WorkerProcess(spec, folder, worker_settings(settings)) as worker:
        if not worker.has_fit:
            return Fitted(0.0, {}, is_changed=current is None)
        run.progress.stage("training")
        before, began = contents(folder), time.time()
        data = event_data(source.ask("GET", f"api/projects/{project.id}/"), project.id)
        result = worker.fit(EVENT, data, _passed_on(parameters), on_wait=run.stop.check)
    return Fitted(began, result or {}, contents(folder) != before)


def _passed_on(parameters: Parameters) -> dict[str, Any]:
    given, defaults = asdict(parameters), asdict(Parameters())
    return {name: given[name] for name in _PASSED_ON if given[name] != defaults[name]}


def _unchanged(model: str | None, current: Manifest | None) -> str:
    stays = f"{current.version} stays" if current else "there is still no version of it"
    return f"No version: {model} has changed nothing in MODEL_DIR, so {stays}."
