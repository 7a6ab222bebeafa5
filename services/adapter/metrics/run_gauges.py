"""Gauges of a project's active run, and of the time that the last one took. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from services.adapter.metrics.gauges import ProjectGauge, Read, Values, from_view
from services.adapter.state.board import ProjectView
from services.core.domain import Pending, RunStatus, Served

STAGES: Final = (
    "reading",
    "loading",
    "features",
    "fitting",
    "fine-tuning",
    "judging",
    "exporting",
    "predicting",
    "publishing",
    "other",
)
"""First words of a run's stage."""


def stage_label(stage: str) -> str:
    """Return one of STAGES."""
    first = stage.partition(" ")[0]
    return first if first in STAGES else "other"


def _of_active_run(read: Callable[[RunStatus], float | None]) -> Read:
    return lambda view, _: [((), read(view.active))] if view.active else []


def _of_running_process(read: Callable[[RunStatus], float | None]) -> Read:
    """Read a value, unless no process works on the run: that of the last attempt is outdated."""
    return lambda view, _: [((), read(view.active))] if view.active and not view.waiting else []


def _stage(view: ProjectView, _: Served) -> Values:
    if view.active and view.active.stage:
        yield (stage_label(view.active.stage),), 1.0


def _stage_seconds(view: ProjectView, _: Served) -> Values:
    spent: defaultdict[str, float] = defaultdict(float)
    for stage, seconds in (view.last.seconds if view.last else {}).items():
        spent[stage_label(stage)] += seconds
    return [((stage,), seconds) for stage, seconds in spent.items()]


def _pending(view: ProjectView, _: Served) -> Values:
    if view.figures.pending:
        yield (view.figures.pending,), 1.0


def _progress(run: RunStatus) -> float | None:
    return min(1.0, run.step / run.steps) if run.steps else None


RUN_GAUGES: Final = (
    ProjectGauge(
        "fitloop_run_info",
        "1, labelled with the active run; absent if there is none, as are all its metrics.",
        lambda view, _: [((view.active.run,), 1.0)] if view.active else [],
        {"run": ()},
    ),
    ProjectGauge(
        "fitloop_run_stage",
        "1 for the run's current stage.",
        _stage,
        {"stage": STAGES},
    ),
    ProjectGauge(
        "fitloop_run_progress_ratio",
        "Progress of the current stage; absent in a stage without steps.",
        _of_active_run(_progress),
    ),
    ProjectGauge(
        "fitloop_run_seconds_left",
        "Estimated seconds left in the current stage.",
        _of_running_process(lambda run: run.seconds_left),
    ),
    ProjectGauge(
        "fitloop_run_requested_timestamp_seconds",
        "When the active run was requested. `other`: the earliest of those that the cluster cannot start.",
        from_view(lambda view: view.figures.requested_at),
        worst=min,
        among=lambda view: view.figures.pending not in {"", Pending.TURN},
    ),
    ProjectGauge(
        "fitloop_run_started_timestamp_seconds",
        "When the first attempt of the active run started; absent before.",
        from_view(lambda view: view.figures.started_at),
    ),
    ProjectGauge(
        "fitloop_run_pending",
        "1, labelled with the reason why a run waits: `turn` for runs of other projects, the others for the cluster; absent if none waits.",
        _pending,
        {"reason": tuple(Pending)},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_run_texts_per_second",
        "Texts per second in the current stage.",
        _of_running_process(lambda run: run.texts_per_second),
    ),
    ProjectGauge(
        "fitloop_run_resident_bytes",
        "Resident memory of the run's process in bytes.",
        _of_running_process(lambda run: run.resident_bytes),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_run_gpu_memory_bytes",
        "Used memory of the run's GPU in bytes; absent without a GPU, as are the limit and the utilization.",
        _of_running_process(lambda run: run.gpu_memory_bytes),
    ),
    ProjectGauge(
        "fitloop_run_gpu_memory_limit_bytes",
        "Memory of the run's GPU, or of its slice, in bytes.",
        _of_running_process(lambda run: run.gpu_memory_limit_bytes),
    ),
    ProjectGauge(
        "fitloop_run_gpu_utilization_ratio",
        "Recent utilization of the run's GPU.",
        _of_running_process(lambda run: run.gpu_utilization),
    ),
    ProjectGauge(
        "fitloop_pool_tasks",
        "Unlabelled tasks that show a text, when a run last read them.",
        from_view(lambda view: view.figures.pool.tasks if view.figures.pool else None),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_pool_tasks_without_features",
        "Those of the unlabelled tasks whose texts had no features after that run: a new version has no suggestions for them at first.",
        from_view(lambda view: view.figures.pool.left if view.figures.pool else None),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_run_stage_seconds",
        "Seconds that the last finished run spent in each stage.",
        _stage_seconds,
        {"stage": STAGES},
    ),
)
