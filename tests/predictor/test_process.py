"""The predictor as a pod starts it: KServe's server, the management port, its errors in one line, and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.core.domain import Served
from services.core.registry import Registry
from services.core.serving_table import ServingTableReader
from services.core.settings import ServingSettings
from services.predictor.manager import ModelManager
from services.predictor.server import ManagementServer
from tests.support.buckets import ENDPOINT, SECRET, needs_s3
from tests.support.buckets import KEY as ACCESS_KEY
from tests.support.inference import local_inference
from tests.support.model_classes import python_path, tasks_of
from tests.support.own_versions import publish_own_version, write_own_project
from tests.support.s3_server import serve_bucket
from tests.support.versions import KEY, corrupt_file, write_serving_table
from tests.support.waiting import eventually

KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
COMMAND = [sys.executable, "-m", "services.predictor"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def build_environment(folder: Path, **others: str) -> dict[str, str]:
    """Return the environment of a pod with only the given variables of Fitloop."""
    known = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("PATH", "PYTHON", "COVERAGE", "HOME"))
    }
    own = {"FITLOOP_CACHE_DIR": str(folder), "WORKERS": "1", "FITLOOP_LOG_FORMAT": "json"}
    return known | own | others


class RunningPredictor:
    """A predictor process."""

    def __init__(self, folder: Path, **others: str) -> None:
        self.port, self.state_port = free_port(), free_port()
        ports = {
            "FITLOOP_PREDICTOR_PORT": str(self.port),
            "FITLOOP_PREDICTOR_STATE_PORT": str(self.state_port),
        }
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            given = build_environment(folder, **ports, **others)
            self.process = subprocess.Popen(COMMAND, env=given, stdout=log, stderr=log)

    def get(self, path: str) -> httpx.Response | None:
        """Get from the management port; None if it does not answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.state_port}{path}", timeout=5)
        except httpx.HTTPError:
            return None

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        answer = self.get("/readyz")
        return answer is not None and answer.is_success

    def state(self) -> dict[str, Any]:
        answer = self.get("/state")
        assert answer is not None
        return dict(answer.json())

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", json=body, timeout=60)


@pytest.fixture
def start_predictor(registry: Registry, tmp_path: Path) -> Iterator[Callable[[], RunningPredictor]]:
    """Return a function that starts predictors over the registry; they are killed afterwards."""
    running: list[RunningPredictor] = []

    def start() -> RunningPredictor:
        folder = tmp_path / f"pod-{len(running)}"
        folder.mkdir()
        running.append(
            RunningPredictor(folder, FITLOOP_STORE=registry.store.url, FITLOOP_ROLLOUT_MODE="reload")
        )
        eventually(running[-1].is_ready)
        return running[-1]

    yield start
    for predictor in running:
        predictor.process.kill()
        predictor.process.wait()


def test_process_from_start_to_sigterm(
    registry: Registry, start_predictor: Callable[[], RunningPredictor]
) -> None:
    """Serve v1 and v2, load a target, refuse a broken version, answer pending requests after SIGTERM, and exit 0."""
    write_serving_table(registry, {KEY: Served("v-1")})
    predictor = start_predictor()
    answer = predictor.post(f"/v1/models/p{KEY}:predict", instances=["a text"])
    assert answer.json()["version"] == "v-1"
    assert predictor.post(f"/v2/repository/models/p{KEY}/unload").status_code == 403
    assert httpx.get(f"http://127.0.0.1:{predictor.port}/v2").json()["name"] == "kserve"

    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    eventually(lambda: "v-2" in predictor.state()["held"][KEY])
    corrupt_file(registry, "v-3")
    write_serving_table(registry, {KEY: Served("v-1", target="v-3")})
    eventually(lambda: predictor.state()["refused"])
    assert predictor.state()["held"] == {KEY: ["v-1"]}
    assert predictor.is_ready()

    _check_metrics(predictor)

    _end_while_it_computes(predictor)
    lines = [json.loads(line) for line in predictor.log.read_text().splitlines()]
    assert {line["level"] for line in lines} <= {"info", "error"}
    assert [line["event"] for line in lines if line["level"] == "error"] == ["version_refused"]
    assert "/v1/models" not in predictor.log.read_text(), "no line for each request"


def _check_metrics(predictor: RunningPredictor) -> None:
    """Check the metrics after one answered text, with v-1 loaded and v-3 refused."""
    metrics = predictor.get("/metrics")
    assert metrics is not None
    lines = metrics.text.splitlines()
    for line in (
        'fitloop_predictor_requests_total{outcome="answered"} 1.0',
        'fitloop_predictor_loads_total{outcome="refused"} 1.0',
        'fitloop_predictor_versions{state="held"} 1.0',
        'fitloop_predictor_versions{state="refused"} 1.0',
        'fitloop_predictor_version_info{project="5",version="v-1"} 1.0',
        'fitloop_engine_version_requests_total{outcome="hit"} 1.0',
        'fitloop_engine_versions{engine="ct2-int8"} 1.0',
        "fitloop_engine_texts_total 1.0",
        "fitloop_engine_queue_seconds_count 1.0",
        "fitloop_engine_inference_seconds_count 1.0",
        "fitloop_engine_queue_limit_texts 20000.0",
    ):
        assert line in lines, line
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    assert any(line.startswith("fitloop_build_info{") and 'component="predictor"' in line for line in lines)


def _end_while_it_computes(predictor: RunningPredictor) -> None:
    texts, answers = ["some words that are many " * 20] * 1500, list[httpx.Response]()
    request = threading.Thread(
        target=lambda: answers.append(predictor.post(f"/v1/models/p{KEY}:predict", instances=texts))
    )
    request.start()
    eventually(lambda: _waiting(predictor) > 0, every=0.005)
    predictor.process.send_signal(signal.SIGTERM)
    request.join(60)
    assert [len(answer.json()["predictions"]) for answer in answers] == [len(texts)]
    assert predictor.process.wait(60) == 0


def _waiting(predictor: RunningPredictor) -> float:
    metrics = predictor.get("/metrics")
    assert metrics is not None
    line = next(
        line for line in metrics.text.splitlines() if line.startswith("fitloop_engine_waiting_texts ")
    )
    return float(line.split()[1])


def test_not_ready_once_the_port_is_closed(registry: Registry) -> None:
    inference = local_inference(registry, ServingSettings(workers=1))
    manager = ModelManager(inference, ServingTableReader(registry.store), "reload", ready=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        management = ManagementServer(manager, 0, int(listener.getsockname()[1]))
        management.start()
        url = f"http://127.0.0.1:{management.port}"
        eventually(lambda: httpx.get(f"{url}/livez").is_success)
        assert httpx.get(f"{url}/readyz").status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 503
    assert httpx.get(f"{url}/livez").status_code == 200
    management.stop()
    inference.close()


def test_waits_for_a_late_bucket(tmp_path: Path) -> None:
    port = free_port()
    settings = {"FITLOOP_STORE": "s3://bucket/loop/", "FITLOOP_S3_ENDPOINT": f"http://127.0.0.1:{port}"}
    predictor = RunningPredictor(
        tmp_path, **KEYS, **settings, FITLOOP_S3_REGION="here", FITLOOP_S3_TIMEOUT_SECONDS="2"
    )
    try:
        eventually(lambda: "accepts no connections" in predictor.log.read_text(), 60)
        assert not predictor.is_ready()
        live = predictor.get("/livez")
        assert live is not None
        assert live.status_code == 200
        with serve_bucket(port):
            eventually(predictor.is_ready, 60)
            predictor.process.send_signal(signal.SIGTERM)
            assert predictor.process.wait(60) == 0
    finally:
        predictor.process.kill()
        predictor.process.wait()
    output = predictor.log.read_text()
    assert output.count("bucket_unavailable") == 1
    assert "Traceback" not in output


def test_missing_bucket_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    with serve_bucket(port):
        status, output = _run(
            tmp_path,
            **KEYS,
            FITLOOP_STORE="s3://other/loop/",
            FITLOOP_S3_ENDPOINT=f"http://127.0.0.1:{port}",
            FITLOOP_S3_REGION="here",
        )
    assert (status, "there is no bucket 'other'" in output, len(output.strip().splitlines())) == (
        78,
        True,
        1,
    ), output


def _run(folder: Path, **others: str) -> tuple[int, str]:
    found = subprocess.run(
        COMMAND,
        env=build_environment(folder, **others),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return found.returncode, found.stderr


@pytest.mark.parametrize(
    ("others", "code", "sentence"),
    [
        ({}, 78, "FITLOOP_STORE is not set"),
        ({"FITLOOP_STORE": "ftp://x"}, 78, "is not a store"),
        ({"FITLOOP_STORE": "s3://b/", "FITLOOP_ROLLOUT_MODE": "never"}, 78, "FITLOOP_ROLLOUT_MODE"),
    ],
)
def test_bad_configuration_is_one_line(
    tmp_path: Path, others: dict[str, str], code: int, sentence: str
) -> None:
    status, output = _run(tmp_path, **others)
    assert status == code
    assert sentence in output
    assert len(output.strip().splitlines()) == 1, output


@needs_s3
@pytest.mark.parametrize(
    ("key", "sentence"), [(ACCESS_KEY, "there is no bucket"), ("nobody", "does not know the access key")]
)
def test_refused_bucket_is_one_line(tmp_path: Path, key: str, sentence: str) -> None:
    status, output = _run(
        tmp_path,
        FITLOOP_STORE="s3://fitloop-no-such-bucket/x/",
        FITLOOP_S3_ENDPOINT=ENDPOINT,
        AWS_ACCESS_KEY_ID=key,
        AWS_SECRET_ACCESS_KEY=SECRET,
    )
    assert (status, sentence in output, len(output.strip().splitlines())) == (78, True, 1), output


def test_taken_port_is_one_line(tmp_path: Path, registry: Registry) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, output = _run(tmp_path, FITLOOP_STORE=registry.store.url, FITLOOP_PREDICTOR_STATE_PORT=port)
    assert status == 78
    assert f"port {port}" in output


def test_a_class_is_served_and_ends_with_the_predictor(
    registry: Registry, start_predictor: Callable[[], RunningPredictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([python_path(), os.environ.get("PYTHONPATH", "")]))
    write_own_project(registry, key="6-1")
    publish_own_version(registry, "w-1", "own_models:Keeper", key="6-1")
    write_serving_table(registry, {KEY: Served("v-1"), "6-1": Served("w-1")})
    predictor = start_predictor()
    assert predictor.state()["held"] == {KEY: ["v-1"], "6-1": ["w-1"]}
    answer = predictor.post("/v2/models/p6-1/tasks", tasks=tasks_of("a"))
    ((found,),) = answer.json()["predictions"]
    assert (found["model_version"], found["result"][0]["value"]) == ("w-1", {"choices": ["sport"]})
    (worker,) = children_of(predictor.process.pid)
    predictor.process.kill()
    eventually(lambda: not Path(f"/proc/{worker}").exists(), what="its process ends too")


def children_of(pid: int) -> list[int]:
    """Return the processes of model classes among a process's children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [child for child in children if "worker.py" in Path(f"/proc/{child}/cmdline").read_text()]
