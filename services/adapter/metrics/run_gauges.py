"""The run of a project that goes on, and what the last one took. Pure."""

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
    "publishing",
    "other",
)
"""What a run says that it is doing; a part of the work that is named beside it is left out."""


def stage_label(said: str) -> str:
    """One of STAGES."""
    first = said.partition(" ")[0]
    return first if first in STAGES else "other"


def _of_active_run(read: Callable[[RunStatus], float | None]) -> Read:
    return lambda view, _: [((), read(view.active))] if view.active else []


def _of_running_process(read: Callable[[RunStatus], float | None]) -> Read:
    """Nothing while no process works on the run: what the last one said is over."""
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
        "1, with the run that goes on; absent while none does, as are all figures of it.",
        lambda view, _: [((view.active.run,), 1.0)] if view.active else [],
        {"run": ()},
    ),
    ProjectGauge(
        "fitloop_run_stage",
        "1 for the stage that the run is in.",
        _stage,
        {"stage": STAGES},
    ),
    ProjectGauge(
        "fitloop_run_progress_ratio",
        "Share of the stage's steps that are done; absent in a stage without steps.",
        _of_active_run(_progress),
    ),
    ProjectGauge(
        "fitloop_run_seconds_left",
        "Seconds that the stage still takes, as the run estimates it.",
        _of_running_process(lambda run: run.seconds_left),
    ),
    ProjectGauge(
        "fitloop_run_requested_timestamp_seconds",
        "When the run that goes on was asked for.",
        from_view(lambda view: view.figures.requested_at),
    ),
    ProjectGauge(
        "fitloop_run_started_timestamp_seconds",
        "When the first process of the run that goes on began; absent before.",
        from_view(lambda view: view.figures.started_at),
    ),
    ProjectGauge(
        "fitloop_run_pending",
        "1 with what a run waits for: `turn` for runs of other projects, the others for the cluster; absent while none waits.",
        _pending,
        {"reason": tuple(Pending)},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_run_texts_per_second",
        "Texts a second that the run's stage gets through.",
        _of_running_process(lambda run: run.texts_per_second),
    ),
    ProjectGauge(
        "fitloop_run_resident_bytes",
        "Memory of the run's process.",
        _of_running_process(lambda run: run.resident_bytes),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_run_gpu_memory_bytes",
        "Memory that is taken of the run's GPU; absent without one, as are the limit and the utilisation.",
        _of_running_process(lambda run: run.gpu_memory_bytes),
    ),
    ProjectGauge(
        "fitloop_run_gpu_memory_limit_bytes",
        "Memory that the run's GPU has, or the slice of one that the run was given.",
        _of_running_process(lambda run: run.gpu_memory_limit_bytes),
    ),
    ProjectGauge(
        "fitloop_run_gpu_utilization_ratio",
        "Share of the last moments in which the run's GPU computed.",
        _of_running_process(lambda run: run.gpu_utilization),
    ),
    ProjectGauge(
        "fitloop_run_stage_seconds",
        "Seconds that the last finished run spent in each stage.",
        _stage_seconds,
        {"stage": STAGES},
    ),
)
