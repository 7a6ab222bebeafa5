"""Model classes of the operator's beside a real Label Studio: killed under load, hanging, several at once, rolled back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.annotator import Annotator
from demo.walkthrough import read_texts
from tests.e2e.conftest import LocalFitloop
from tests.support.model_classes import CHOICES, SPANS, python_path
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
NER_TEXTS = ("Ada wrote to Rome", "Oslo is cold", "Paris in spring")


def start_with(start_fitloop: Start, **environment: str) -> LocalFitloop:
    """Start a Fitloop whose backends may name classes of tests/mlbackend/classes."""
    path = os.pathsep.join(filter(None, [python_path(), os.environ.get("PYTHONPATH", "")]))
    own = {
        "PYTHONPATH": path,
        "FITLOOP_ALLOWED_MODELS": "own_models:*",
        "START_TRAINING_EACH_N_UPDATES": "3",
        **environment,
    }
    return start_fitloop(**own)


def connect(
    annotator: Annotator, fitloop: LocalFitloop, model: str, config: str, texts: tuple[str, ...]
) -> tuple[int, int, list[int]]:
    """Create a project whose backend names the class; return the ids of project, backend and tasks."""
    project = annotator.create_project(f"A class: {model}"[:50], config)
    tasks = annotator.import_texts(project, texts)
    extra = {"method": "label-studio-ml", "model": model}
    return project, annotator.connect(project, fitloop.url, extra_params=extra), tasks


def predictions(annotator: Annotator, project: int, version: str) -> dict[int, Any]:
    """Return the stored predictions of a version by task: their first region's value."""
    rows = annotator.call("GET", "/api/predictions/", params={"project": project})
    return {row["task"]: row["result"][0]["value"] for row in rows if row["model_version"] == version}


def predict(fitloop: LocalFitloop, project: int, text: str) -> httpx.Response:
    """Ask as Label Studio does."""
    body = {"tasks": [{"id": 1, "data": {"text": text}}], "project": f"{project}.1"}
    return httpx.post(f"{fitloop.url}/predict", json=body, timeout=100)


def workers_of(fitloop: LocalFitloop) -> list[int]:
    """Return the processes of classes that this Fitloop started."""
    assert fitloop.server is not None
    assert fitloop.server.process is not None
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_text()
        except OSError:
            continue
        if parent == fitloop.server.process.pid and "mlbackend/worker.py" in command:
            found.append(int(path.name))
    return found


def test_a_class_trains_is_served_killed_and_rolled_back(start_fitloop: Start, annotator: Annotator) -> None:
    fitloop = start_with(start_fitloop)
    texts = tuple(text for text, _ in read_texts("pool")[:40])
    project, _, tasks = connect(annotator, fitloop, "own_models:Keeper", CHOICES, texts)
    for task in tasks[:3]:
        annotator.label(task, "sport", "topic")
    first = fitloop.served(project)
    eventually(lambda: len(predictions(annotator, project, first)) == 37, what="a suggestion for each task")
    assert predictions(annotator, project, first)[tasks[5]] == {"choices": ["sport"]}
    assert "not evaluated" in fitloop.state(project)["sentence"]

    over, answers = threading.Event(), list[httpx.Response]()

    def load() -> None:
        while not over.is_set():
            answers.append(predict(fitloop, project, "a text"))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    (pid,) = eventually(lambda: workers_of(fitloop) if len(answers) > 10 else [])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: workers_of(fitloop) not in ([], [pid]), what="another process")
    before = len(answers)
    eventually(lambda: len(answers) > before + 20)
    over.set()
    for thread in threads:
        thread.join()
    failed = [answer for answer in answers if answer.is_error]
    assert len(failed) <= 3, "only requests in flight fail"
    assert not any(answer.is_error for answer in answers[-10:])

    for task in tasks[3:6]:
        annotator.label(task, "sport", "topic")
    second = fitloop.served(project, other_than=first)
    eventually(lambda: len(predictions(annotator, project, second)) == 34, what="its suggestions")
    assert predictions(annotator, project, second)[tasks[10]] == {"choices": ["politics"]}
    fitloop.send_command(project, "rollback")
    assert fitloop.served(project, other_than=second) == first
    found = predict(fitloop, project, "a text").json()["results"][0]
    assert (found["model_version"], found["result"][0]["value"]) == (first, {"choices": ["sport"]})


def test_two_classes_one_of_which_hangs(start_fitloop: Start, annotator: Annotator) -> None:
    fitloop = start_with(start_fitloop, FITLOOP_MODEL_PREDICT_SECONDS="10")
    spans, backend, tasks = connect(annotator, fitloop, "own_models:Spans", SPANS, NER_TEXTS)
    value = {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}
    region = {"id": "a", "from_name": "label", "to_name": "text", "type": "labels", "value": value}
    annotator.call("POST", f"/api/tasks/{tasks[0]}/annotations/", json={"result": [region]})
    annotator.start_training(backend)
    version = fitloop.served(spans)
    stored = eventually(lambda: predictions(annotator, spans, version), what="spans in Label Studio")
    assert {value["text"] for value in stored.values()} <= {"Oslo", "Paris"}
    assert all(value["labels"] == ["PER"] for value in stored.values())

    fragile, backend, tasks = connect(annotator, fitloop, "own_models:Fragile", CHOICES, ("a", "b"))
    annotator.label(tasks[0], "sport", "topic")
    annotator.start_training(backend)
    fitloop.served(fragile)
    hanging = list[httpx.Response]()
    thread = threading.Thread(target=lambda: hanging.append(predict(fitloop, fragile, "hang")))
    thread.start()
    assert httpx.get(f"{fitloop.url}/health", timeout=30).status_code == 200
    assert predict(fitloop, spans, "Ada wrote").json()["results"][0]["result"][0]["value"]["text"] == "Ada"
    thread.join()
    assert hanging[0].is_error
    assert "did not answer within 10 s; its process was ended" in hanging[0].text
    eventually(lambda: predict(fitloop, fragile, "a").is_success, what="its process is replaced")
