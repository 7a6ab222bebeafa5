"""Fresh suggestions for unlabelled tasks after a promotion, without Label Studio's own time."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.result import Options, Result, median_and_range, say
from bench.rig import Rig
from services.adapter.serving.delivery_ports import DeliveryPorts
from services.adapter.serving.label_studio import RefreshJob
from services.adapter.serving.refresh import Refresher
from services.adapter.serving.stored import stored_predictions
from services.core.domain import (
    Artefact,
    Estimate,
    GateDecision,
    LabelSpace,
    Lineage,
    Manifest,
    Method,
    Parameters,
    Served,
)
from services.core.features import key_array
from services.core.labels import text_key
from services.core.labelstudio import Backend
from services.core.pool import PoolPredictions
from services.core.registry import Registry
from services.core.settings import AuthSettings, ServingSettings
from services.core.store.files import FileStore
from services.engine.compute import Scores
from services.mlbackend.calls import TaskPredictions

GOAL = 0.5
_TASKS, _LABELS = 10_000, tuple(f"label-{number}" for number in range(77))
_URL = "http://fitloop:9090"
_SPACE = LabelSpace("label", "text", "$text", _LABELS)


@dataclass
class _LabelStudio:
    """Answers at once; bodies of pushes are encoded, as the client of the real one does."""

    texts: dict[int, str]
    title: str = "fitloop"
    stored: dict[int, str] = field(default_factory=dict)
    titled_at: float = 0.0
    first_at: float = 0.0

    def count_unlabelled(self, _: int) -> int:
        return len(self.texts)

    def unlabelled_ids(self, _: int) -> Iterator[list[int]]:
        ids = list(self.texts)
        yield from (ids[start : start + 2000] for start in range(0, len(ids), 2000))

    def unpredicted_tasks(self, _: int, version: str, tasks: Sequence[int]) -> list[dict[str, Any]]:
        lacking = [task for task in tasks if version not in self.stored.get(task, "")]
        return [{"id": task, "data": {"text": self.texts[task]}} for task in lacking]

    def unlabelled_tasks(self, _: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        rows = [(task, self.stored.get(task)) for task in tasks]
        return [
            {
                "id": task,
                "data": {"text": self.texts[task]},
                "predictions": [{"id": task, "model_version": version}] if version else [],
            }
            for task, version in rows
        ]

    def push_predictions(self, _: int, predictions: Sequence[dict[str, Any]]) -> int:
        json.dumps(predictions)
        self.stored.update((row["task"], row["model_version"]) for row in predictions)
        self.first_at = self.first_at or time.perf_counter()
        return len(predictions)

    def push_prediction(self, _: int, __: dict[str, Any]) -> None:
        raise AssertionError("no batch is refused here, so no prediction is pushed by itself")

    def have_prediction(self, _: int, version: str, tasks: Sequence[int]) -> dict[int, bool]:
        return {task: self.stored.get(task) == version for task in tasks}

    def delete_prediction(self, _: int) -> None:
        """Do nothing."""

    def backends(self, _: int) -> list[Backend]:
        return [Backend(1, _URL, self.title)]

    def set_backend_title(self, _: int, __: Backend, title: str, ___: dict[str, str]) -> None:
        self.title, self.titled_at = title, time.perf_counter()


class _NoInference:
    async def scores(self, *_: object) -> Scores:
        raise AssertionError("each task is in the version's file, so no predictor is asked")

    async def predict_tasks(self, *_: object) -> list[TaskPredictions]:
        raise AssertionError("no class is asked either")

    async def ready(self) -> bool:
        return True


def run(options: Options, rig: Rig) -> Result:
    del rig
    texts = {task: f"text number {task} about a card, a loan, or a transfer" for task in range(1, _TASKS + 1)}
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(FileStore(Path(folder)))
        _publish(registry, texts, Path(folder))
        found = [_deliver(registry, texts) for _ in range(max(options.rounds, 3))]
    firsts, titles, totals = zip(*found, strict=True)
    worst = max(totals)
    say(f"delivery: {median_and_range(totals)} s")
    return Result(
        name="delivery",
        rows=(
            ("seconds after the promotion", "median (range)"),
            ("the most uncertain are pushed", median_and_range(firsts, 3)),
            ("the title is set", median_and_range(titles, 3)),
            (f"all {_TASKS:,} are pushed", median_and_range(totals, 3)),
        ),
        sentence=f"{_TASKS:,} unlabelled tasks have fresh suggestions after {sorted(totals)[len(totals) // 2]:.2f} s, without Label Studio's own time.",
        met=worst <= GOAL,
        goal=f"at most {GOAL:g} s",
        how="A Label Studio in memory that answers at once; the run's predictions are read from a folder, verified, compared with each task's text, and encoded as JSON.",
    )


def _publish(registry: Registry, texts: dict[int, str], folder: Path) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(len(_LABELS), 0.05), len(texts)).astype(np.float32)
    keys = key_array(map(text_key, texts.values()))
    version = folder / "version"
    version.mkdir()
    PoolPredictions.of(np.array(list(texts), np.int64), keys, probabilities).write(version)
    lineage = Lineage("1-1", (), "", "", "minilm", "", "", Parameters(), None, 9, True)
    manifest = Manifest(
        "bench-1",
        "1-1",
        Method.LINEAR_PROBE,
        _LABELS,
        Artefact("head", "encoder", "", 256, 1.0),
        Estimate(9, 9, 0.5, 1.0, 1.0, "cross-fit"),
        GateDecision(True, "first", ()),
        lineage,
        0.0,
    )
    registry.publish(version, manifest)


def _deliver(registry: Registry, texts: dict[int, str]) -> tuple[float, float, float]:
    """Return the seconds until the first push, the title, and the end."""
    label_studio = _LabelStudio(texts)
    ports = DeliveryPorts(
        label_studio,
        _NoInference(),
        AuthSettings(),
        ServingSettings(),
        lambda _: Served(current="bench-1"),
        lambda job: stored_predictions(registry, job.project_key, job.version),
    )
    refresher = Refresher(ports, lambda _: True, time.time)
    refresher.submit(RefreshJob(1, "1-1", "bench-1", _SPACE, _URL))
    began = time.perf_counter()
    while len(label_studio.stored) < len(texts):
        refresher.run_due_job(time.time())
    done = time.perf_counter()
    return label_studio.first_at - began, label_studio.titled_at - began, done - began
