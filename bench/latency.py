"""Latency of Label Studio's small requests while a fine-tune uses all available cores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench import texts
from bench.result import Options, Result, percentile, say
from bench.rig import Backend, Connected, Rig, until

GOAL = 50.0
CLIENTS, RATE, SECONDS, AT_REST = 8, 10.0, 20.0, 10.0
_TEXTS, _EPOCHS = 2_000, 50
"""Enough that training outlasts the requests; it is cancelled then."""


def run(options: Options, rig: Rig) -> Result:
    train = texts.some(texts.banking77(options.data, "train"), _TEXTS, seed=0)
    with rig.fitloop() as backend:
        connected = rig.connect(
            backend, train, texts.intents(options.data), method="finetune", num_train_epochs=_EPOCHS
        )
        asked = {
            "/health": ("GET", ""),
            "/setup": ("POST", json.dumps(connected.setup_body())),
            "/webhook": ("POST", json.dumps(annotation_created(connected, train[0]))),
        }
        quiet = {path: measure(backend, path, *request, AT_REST) for path, request in asked.items()}
        rig.annotator.start_training(connected.backend)
        say("latency: waiting for the fit")
        until(lambda: _fitting(backend, connected), 180, "the fine-tune to begin")
        busy = {}
        for path, request in asked.items():
            busy[path] = measure(backend, path, *request, SECONDS)
            assert _fitting(backend, connected), "the fit ended while the clients were asking"
        httpx.post(
            f"{backend.url}/api/projects/{connected.id}/cancel", json={}, timeout=30
        ).raise_for_status()
        until(lambda: backend.resting(connected.id), 60, "the run's end")
    return _result(quiet, busy)


def measure(backend: Backend, path: str, method: str, body: str, seconds: float) -> list[float]:
    """Return the milliseconds of each request, sent from a separate process. Every response must be a 200."""
    parts = urlsplit(backend.url)
    job = {
        "host": parts.hostname,
        "port": parts.port,
        "method": method,
        "path": path,
        "body": body,
        "clients": CLIENTS,
        "rate": RATE,
        "seconds": seconds,
    }
    command = [sys.executable, "-m", "bench.client"]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert not answer["errors"], f"{path}: {Counter(answer['errors'])}"
    found: list[float] = answer["milliseconds"]
    say(f"latency: {path}: {len(found)} requests, p99 {percentile(found, 0.99):.1f} ms")
    return found


def _fitting(backend: Backend, connected: Connected) -> bool | None:
    """Return True once the run trains; its process has a lower priority, as always."""
    active = backend.state(connected.id).get("active")
    return True if active and str(active["stage"]).startswith("fine-tuning") and active["step"] > 0 else None


def annotation_created(connected: Connected, labelled: tuple[str, str]) -> dict[str, Any]:
    """Return the event that Label Studio 1.23 sends when an annotator submits: annotation, project with its label config, task."""
    text, label = labelled
    stamp = "2026-11-23T22:35:54.338274Z"
    region = {"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {
            "id": 4,
            "result": [region],
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": stamp,
            "updated_at": stamp,
            "lead_time": 3.2,
            "prediction": {},
            "result_count": 1,
            "unique_id": "f52a9327-0ae4-41b1-95eb-039ae7837711",
            "task": 21,
            "project": connected.id,
            "completed_by": 1,
        },
        "project": {
            "id": connected.id,
            "task_number": _TEXTS,
            "title": "Bench",
            "label_config": connected.config,
            "parsed_label_config": {"intent": {"type": "Choices", "to_name": ["text"]}},
            "created_at": stamp,
            "sampling": "Sequential sampling",
            "model_version": "Fitloop",
        },
        "task": {"id": 21, "data": {"text": text}, "meta": {}, "is_labeled": True, "project": connected.id},
    }


def _result(quiet: dict[str, list[float]], busy: dict[str, list[float]]) -> Result:
    rows: list[tuple[str, ...]] = [
        ("route", "requests", "p50 ms", "p99 ms", "max ms", "p50 ms idle", "p99 ms idle")
    ]
    for path, found in busy.items():
        figures = (percentile(found, 0.5), percentile(found, 0.99), max(found))
        rest = (percentile(quiet[path], 0.5), percentile(quiet[path], 0.99))
        rows.append((path, f"{len(found):,}", *(f"{figure:.1f}" for figure in (*figures, *rest))))
    worst = max(percentile(found, 0.99) for found in busy.values())
    return Result(
        name="latency",
        rows=tuple(rows),
        sentence=f"While a fine-tune runs, 99 % of requests to each route are answered within {worst:.0f} ms.",
        met=worst <= GOAL,
        goal=f"p99 at most {GOAL:.0f} ms",
        how=(
            f"{CLIENTS} clients for {SECONDS:.0f} s a route, each {RATE:.0f} requests per second on new connections (as Label Studio "
            f"does), from a separate process on the same cores, while METHOD=finetune trains on {_TEXTS:,} texts; the same "
            f"for {AT_REST:.0f} s before training, idle. Milliseconds from connecting to the last byte."
        ),
    )
