"""A release on the cluster of KUBECONFIG: time from "Start training" to the new version, by step, and memory."""

from __future__ import annotations

import contextlib
import itertools
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pytest

from bench import texts
from bench.result import Options, Result, Skip, median_and_range, say
from bench.rig import Connected, Rig, base, until
from demo.annotator import label_config
from demo.servers import TOKEN
from tests.e2e.bucket import Bucket
from tests.e2e.kubernetes import ClusterEnvironment, Namespace
from tests.e2e.release import Release

TEXTS = 300
GOALS = {("linear-probe", "reload"): 30.0, ("linear-probe", "rolling"): 55.0}
ROLLS = {"reload": 1.2, "rolling": 25.0}
"""From the manifest to the version in /setup."""
MEMORY = {"adapter": 200.0, "predictor": 450.0}
"""Limit for a predictor that has loaded one project's version; for many it is bounded by predictor.modelMemoryMb, and reported."""
_POLL = 0.1
_PARTS = (
    "click to request",
    "request to Job",
    "Job to running trainer",
    "first imports",
    "trainer",
    "published to reported",
    "all",
)
_FLIP_PARTS = ("published to target", "target to loaded", "loaded to flip", "flip to reported")


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds by step; `all` is their sum."""

    spent: dict[str, float]
    flip: dict[str, float]
    """Of `published to reported`."""


def run(options: Options, rig: Rig) -> Result:
    train, intents = texts.banking77(options.data, "train"), texts.intents(options.data)
    variants = [("linear-probe", "reload", options.rounds), ("linear-probe", "rolling", options.rounds)]
    variants += [("auto", "reload", 1), ("finetune", "reload", 1)]
    found: dict[tuple[str, str], list[Round]] = {}
    one: dict[str, float] = {}
    with _release(rig) as release:
        for method, mode, rounds in variants:
            release.upgrade(
                {"rollout": {"mode": mode, "minIntervalSeconds": 0}, "training": {"method": method}}
            )
            for number in range(rounds):
                connected = _connect(rig, release, texts.some(train, TEXTS, seed=number), intents)
                found.setdefault((method, mode), []).append(_measure(rig, release, connected))
                one = one or {part: _resident(release, part) for part in MEMORY}
                say(f"cluster: {method}, {mode}: {found[method, mode][-1].spent['all']:.1f} s")
        many = {part: _resident(release, part) for part in MEMORY}
    return _result(found, one, many)


@contextlib.contextmanager
def _release(rig: Rig) -> Iterator[Release]:
    try:
        around = ClusterEnvironment.from_environment()
    except pytest.skip.Exception as skipped:
        raise Skip(str(skipped)) from skipped
    port = int(rig.annotator.url.rpartition(":")[2])
    with Namespace() as namespace, Bucket(around.storage) as bucket:
        model = bucket.upload(base(), "base-models/minilm")
        release = Release(around, namespace, bucket, port, TOKEN, base_model=model)
        release.values = {"training": {"everyNUpdates": 100_000}}
        release.install()
        yield release


def _connect(rig: Rig, release: Release, rows: texts.Labelled, labels: list[str]) -> Connected:
    config = label_config(labels)
    project = rig.annotator.create_project("Bench", config)
    body = [
        {
            "data": {"text": text},
            "annotations": [
                {
                    "result": [
                        {
                            "from_name": "intent",
                            "to_name": "text",
                            "type": "choices",
                            "value": {"choices": [label]},
                        }
                    ]
                }
            ],
        }
        for text, label in rows
    ]
    rig.annotator.import_labelled(project, body)
    row = rig.annotator.call("GET", f"/api/projects/{project}/")
    key = f"{project}.{int(datetime.fromisoformat(row['created_at']).timestamp())}"
    backend = rig.annotator.connect(project, release.url)
    until(lambda: release.state(project).get("labelled") or None, 120, "Fitloop to read the labels")
    return Connected(project, key, config, backend, {})


def _measure(rig: Rig, release: Release, connected: Connected) -> Round:
    run_name = f"{connected.id}-1"
    key, moments = connected.key.replace(".", "-"), dict[str, float]()
    pressed, first_status = time.time(), 0.0
    rig.annotator.start_training(connected.backend)
    while (version := release.setup_version(connected.id)) in {"", "untrained"}:
        if not first_status and f"runs/{run_name}/status.json" in release.bucket.keys(
            f"runs/{run_name}/status"
        ):
            first_status = time.time()
        _look(release, key, moments)
        assert time.time() - pressed < 600, release.state(connected.id)
        time.sleep(_POLL)
    told = time.time()
    _look(release, key, moments)
    until(lambda: _rests(release, connected.id), 600, "the run's end")
    job = release.namespace.get("job", f"{release.fullname}-{run_name}")
    launch = release.bucket.document(f"runs/{run_name}/launch.json")
    published = release.bucket.modified(f"projects/{key}/versions/{version}/manifest.json")
    steps = [
        pressed,
        float(release.bucket.document(f"runs/{run_name}/request.json")["created_at"]),
        datetime.fromisoformat(job["metadata"]["creationTimestamp"]).timestamp(),
        float(launch["attempts"][0]["started_at"]),
        first_status or told,
        published,
        told,
    ]
    flip = [published, moments.get("target", published), moments["loaded"], moments["since"], told]
    return Round({**_between(_PARTS, steps), "all": told - pressed}, _between(_FLIP_PARTS, flip))


def _look(release: Release, key: str, moments: dict[str, float]) -> None:
    """Note when the serving table first had the version as target, and as current: all predictors have loaded it then."""
    if "loaded" in moments or "serving.json" not in release.bucket.keys("serving.json"):
        return
    served = release.bucket.document("serving.json")["projects"].get(key) or {}
    if served.get("target"):
        moments.setdefault("target", float(served["target_since"]))
    if served.get("current"):
        moments.update(loaded=release.bucket.modified("serving.json"), since=float(served["since"]))


def _between(names: Sequence[str], moments: Sequence[float]) -> dict[str, float]:
    return dict(zip(names, (b - a for a, b in itertools.pairwise(moments)), strict=False))


def _rests(release: Release, project: int) -> bool | None:
    state = release.state(project)
    return True if state and not state["active"] and not state["pending"] else None


def _resident(release: Release, component: str) -> float:
    """Return the largest pod's resident memory, in millions of bytes."""
    sizes = []
    for pod in release.pods(component):
        said = release.namespace.kubectl("exec", pod["metadata"]["name"], "--", "cat", "/proc/1/status")
        match = re.search(r"VmRSS:\s+(\d+) kB", said)
        sizes.append(int(match[1]) * 1024 / 1e6 if match else 0.0)
    return max(sizes, default=0.0)


def _result(
    found: dict[tuple[str, str], list[Round]], one: dict[str, float], many: dict[str, float]
) -> Result:
    head = ("where", *(f"{method}, {mode}" for method, mode in found))
    rows: list[tuple[str, ...]] = [head]
    for part in _PARTS:
        cells = (
            median_and_range([one.spent.get(part, 0.0) for one in rounds], 1) for rounds in found.values()
        )
        rows.append((part, *cells))
    medians = {name: statistics.median(one.spent["all"] for one in rounds) for name, rounds in found.items()}
    flips = {
        mode: statistics.median(one.spent["published to reported"] for one in found["linear-probe", mode])
        for mode in ROLLS
    }
    met = (
        all(medians[name] <= goal for name, goal in GOALS.items())
        and all(flips[mode] <= goal for mode, goal in ROLLS.items())
        and all(one[part] <= goal for part, goal in MEMORY.items())
    )
    return Result(
        name="cluster",
        rows=tuple(rows),
        sentence=(
            f"From *Start training* to the version in /setup on a cluster, {TEXTS} labelled texts: "
            f"{medians['linear-probe', 'reload']:.1f} s with reload, {medians['linear-probe', 'rolling']:.1f} s with a rolling update "
            f"(linear-probe). From the manifest to all predictors and /setup: {flips['reload']:.1f} s and {flips['rolling']:.1f} s. "
            f"Resident memory with one project: adapter {one['adapter']:.0f} MB, predictor {one['predictor']:.0f} MB; with "
            f"{sum(len(rounds) for rounds in found.values())}: {many['adapter']:.0f} MB and {many['predictor']:.0f} MB."
        ),
        met=met,
        goal="at most 30 s and 55 s; 1.2 s and 25 s; with one project 200 MB and 450 MB",
        more={"From the manifest to /setup, seconds:": _flip_rows(found)},
        how=(
            "A real Kubernetes on the same two cores with KServe, MinIO and Traefik; profile minikube-cpu, CPU Jobs; each round a "
            "new project of random banking77 texts, the base model in the bucket; auto and finetune once. `published to reported` "
            "includes the second after which all adapters switch at the same time."
        ),
    )


def _flip_rows(found: dict[tuple[str, str], list[Round]]) -> list[list[str]]:
    rows = [["step", *(f"{method}, {mode}" for method, mode in found)]]
    for part in _FLIP_PARTS:
        cells = (median_and_range([one.flip[part] for one in rounds]) for rounds in found.values())
        rows.append([part, *cells])
    return rows
