"""No text of a task, no token and no password in any log line of any process, at any level, with any library."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from services.cluster.client import connect
from services.cluster.inference import RemoteInference
from services.core.domain import Artefact, Served
from services.core.errors import FitloopError
from services.core.labelstudio import LabelStudio
from services.core.registry import Registry
from services.core.settings import (
    AuthSettings,
    ClusterSettings,
    LabelStudioSettings,
    LoggingSettings,
    S3Settings,
)
from services.core.store import open_store
from services.core.store.files import FileStore
from services.core.telemetry.logs import configure
from tests.support import leaks
from tests.support.app import AppWorld
from tests.support.base_models import build_tiny_base
from tests.support.leaks import (
    HOOK,
    LIBRARIES,
    PASSWORD,
    PATH,
    PERSON,
    TEXT,
    TOKEN,
    find_leaks,
    serve_echo,
    serve_label_studio,
)
from tests.support.trainer import TrainerWorld as Labels
from tests.support.trainer import build_text
from tests.support.versions import KEY as PROJECT
from tests.support.versions import build_tiny_version, publish_versions, write_serving_table
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
A_TEXT = f"Dear {TEXT}, the parcel is late"
MALFORMED = (
    f'{{"tasks": [{{"data": {{"text": "{A_TEXT}"',
    f'"{A_TEXT}"',
    json.dumps({"project": A_TEXT, "tasks": A_TEXT}),
    json.dumps({"project": 1, "tasks": [A_TEXT, {"data": A_TEXT}, None]}),
    json.dumps({"project": 1, "action": A_TEXT, "extra_params": {A_TEXT: PERSON, "learning_rate": A_TEXT}}),
    "\ud83d".encode("utf-8", "surrogatepass") + A_TEXT.encode(),
    b"",
)


@pytest.fixture
def _library_levels() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield
    for library, before in levels.items():
        logging.getLogger(library).setLevel(before)


def log_everything() -> None:
    """Log at DEBUG, libraries included, and without redaction."""
    configure(LoggingSettings(level="DEBUG"))
    for library in LIBRARIES:
        logging.getLogger(library).setLevel("DEBUG")


def environment(folder: Path, **more: str) -> dict[str, str]:
    (folder / "hooks").mkdir(exist_ok=True)
    (folder / "hooks" / "sitecustomize.py").write_text(HOOK)
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("PATH", "HOME", "COVERAGE"))
    }
    own = {"LOG_LEVEL": "DEBUG", "FITLOOP_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1", "WORKERS": "1"}
    return kept | own | {"PYTHONPATH": f"{folder / 'hooks'}{os.pathsep}{ROOT}"} | more


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Process:
    """A process whose output is kept; `ended` stops it and returns its stderr."""

    def __init__(self, folder: Path, *arguments: str, **more: str) -> None:
        self.stderr, self.stdout = folder / "stderr", folder / "stdout"
        with self.stderr.open("w") as stderr, self.stdout.open("w") as stdout:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
                env=environment(folder, **more),
                stderr=stderr,
                stdout=stdout,
            )

    def answers(self, url: str) -> bool:
        assert self._process.poll() is None, self.stderr.read_text()
        try:
            return httpx.get(url).is_success
        except httpx.HTTPError:
            return False

    def ended(self) -> str:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
        return self.stderr.read_text()


def lines_of(written: str) -> list[dict[str, Any]]:
    """Parse all lines as JSON objects."""
    return [json.loads(line) for line in written.splitlines()]


@pytest.mark.slow
def test_debug_logs_of_the_whole_loop_leak_nothing(tmp_path: Path) -> None:
    """`fitloop local` and its trainers, from the first label to predictions, with invalid requests among them."""
    labels = Labels(tmp_path / "labels", build_tiny_base(tmp_path / "base"))
    for number in labels.label(30):
        labels.labelstudio.tasks[1][number]["data"]["text"] += f" {TEXT}"
    unlabelled = labels.labelstudio.add_task()
    labels.labelstudio.tasks[1][unlabelled]["data"] = {"text": A_TEXT}
    port, data = free_port(), tmp_path / "data"
    with serve_label_studio(labels.labelstudio) as label_studio:
        process = Process(
            tmp_path,
            "services.cli",
            *("local", "--host", "127.0.0.1", "--port", str(port), "--data", str(data)),
            LABEL_STUDIO_URL=label_studio,
            LABEL_STUDIO_API_KEY=TOKEN,
            BASIC_AUTH_USER="user",
            BASIC_AUTH_PASS=PASSWORD,
            FITLOOP_SECRET_PATH=PATH,
            BASELINE_MODEL_NAME=str(labels.base),
            METHOD="linear-probe",
            FITLOOP_MAX_LENGTH="32",
            FITLOOP_RECONCILE_SECONDS="1",
        )
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: process.answers(f"{url}/health"), 90)
            with httpx.Client(base_url=url, auth=("user", PASSWORD), timeout=30) as client:
                _walk(url, client, process.stderr.read_text)
        finally:
            written = process.ended()
    (log,) = (path.read_text() for path in data.glob("runs/1-1/log.txt"))
    assert find_leaks(written) == []
    assert find_leaks(log) == []
    assert not [line for line in find_leaks(process.stdout.read_text()) if PATH not in line]
    _check_ids(lines_of(written), lines_of(log))


def _walk(url: str, own: httpx.Client, read_log: Callable[[], str]) -> None:
    person = {"access_token": PERSON, "hostname": f"http://{PERSON}@host", "schema": f"<View>{TEXT}</View>"}
    setup = {"project": "1.1", **person, "extra_params": None}

    def trained() -> bool:
        return bool(own.post("/setup", json=setup).json().get("model_version", "untrained") != "untrained")

    eventually(trained, 90)
    eventually(lambda: '"run_ended"' in read_log(), 90)
    texts = [{"data": {"text": build_text("money", random.Random(1))}}, {"data": {"text": A_TEXT}}]
    answer = own.post(
        "/predict", json={"project": 1, "tasks": texts}, headers={"X-Request-ID": "the-predict-1"}
    )
    assert answer.json()["results"][1]
    assert answer.headers["X-Request-ID"] == "the-predict-1"
    own.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": texts[0]})

    def ask_for_run() -> str:
        """Return the command's id; "" if it was not stored within 0.4 s, as on a loaded machine: the answer is 503 then."""
        training = {"action": "START_TRAINING", "project": {"id": 1}, "token": PERSON}
        answer = own.post("/webhook", json=training, headers={"X-Request-ID": "the-wish-1"})
        return str(answer.json()["job"]) if answer.is_success else ""

    command = eventually(ask_for_run, 30)
    handled = ("command_handled", "run_requested")
    eventually(
        lambda: any(
            command in line and any(event in line for event in handled) for line in read_log().splitlines()
        ),
        60,
        what="the command's end",
    )
    for body in MALFORMED:
        for path in (
            "/setup",
            "/predict",
            "/webhook",
            "/api/projects/1/train",
            f"/api/projects/{TEXT}/train",
        ):
            own.post(path, content=body, headers={"X-Request-ID": A_TEXT})
    httpx.post(f"{url}/{PATH}/webhook", content=MALFORMED[0])
    httpx.post(f"{url}/webhook", json={"text": A_TEXT}, auth=("user", PERSON))
    httpx.get(f"{url}/{TEXT}?token={PERSON}", auth=("user", PASSWORD))
    for page in ("/", "/api/projects", "/api/projects/1", "/versions", "/metrics"):
        own.get(page, headers={"Accept": "text/html"})


def _check_ids(lines: list[dict[str, Any]], log: list[dict[str, Any]]) -> None:
    """Check that lines of a request, a project and a run can be found by id."""
    (stored,) = (
        line for line in lines if line["event"] == "command_stored" and line["request_id"] == "the-wish-1"
    )
    assert (stored["project"], stored["action"]) == (1, "train")
    answers = [line for line in lines if line["event"] in {"run_requested", "command_handled"}]
    assert {line["project"] for line in answers} == {1}
    assert any(stored["command"] in (line.get("command"), *line.get("commands", ())) for line in answers), (
        "what became of it is found by its id"
    )
    (ended,) = (line for line in lines if line["event"] == "run_ended" and line["run"] == "1-1")
    assert (ended["project"], ended["outcome"]) == (1, "done")
    assert any(line["event"] == "version_decided" and line["reason"] for line in lines)
    assert {(line["run"], line["project"], line["attempt"]) for line in log} == {("1-1", 1, 1)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    return build_tiny_version(tmp_path_factory.mktemp("made"))


@pytest.mark.slow
def test_debug_logs_of_a_predictor_leak_nothing(tmp_path: Path, made: tuple[Path, Artefact]) -> None:
    registry = Registry(FileStore(tmp_path / "store"))
    publish_versions(registry, made, "v-1")
    write_serving_table(registry, {PROJECT: Served("v-1")})
    port, state = free_port(), free_port()
    process = Process(
        tmp_path,
        "services.predictor",
        FITLOOP_STORE=registry.store.url,
        FITLOOP_PREDICTOR_PORT=str(port),
        FITLOOP_PREDICTOR_STATE_PORT=str(state),
        AWS_SECRET_ACCESS_KEY=leaks.KEY,
        AWS_ACCESS_KEY_ID=leaks.KEY,
    )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    model = f"/v2/models/p{PROJECT}/infer"
    try:
        eventually(lambda: process.answers(f"http://127.0.0.1:{state}/readyz"), 90)
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [A_TEXT]}
        answer = client.post(model, json={"inputs": [tensor]}, headers={"X-Request-ID": "the-scores-1"})
        assert answer.headers["X-Request-ID"] == "the-scores-1"
        for body in (*MALFORMED, json.dumps({"inputs": [{"datatype": A_TEXT, "data": A_TEXT}]})):
            for path in (model, f"/v1/models/p{PROJECT}:predict", f"/v2/models/{TEXT}/infer", f"/{TEXT}"):
                client.post(path, content=body)
    finally:
        client.close()
        written = process.ended()
    assert find_leaks(written + process.stdout.read_text()) == []
    lines = lines_of(written)
    assert {(line["project"], line["version"]) for line in lines if line["event"] == "version_loaded"} == {
        (5, "v-1")
    }
    assert [
        line for line in lines if line["event"] == "request_answered" and line["request_id"] == "the-scores-1"
    ]


@pytest.mark.usefixtures("_library_levels")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 424, 429, 500, 503])
async def test_echoed_secrets_are_not_logged(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Label Studio, bucket and predictors that echo requests, credentials first."""
    log_everything()
    log = structlog.get_logger("services.test")
    monkeypatch.setattr("services.cluster.inference.CONNECT_RETRY_SECONDS", 0.1)
    with serve_echo(status) as url:
        label_studio = LabelStudio(LabelStudioSettings(url=url, api_key=TOKEN))
        s3 = S3Settings(
            endpoint=url,
            region="here",
            timeout_seconds=0.2,
            access_key=leaks.KEY,
            secret_key=leaks.KEY,
            session_token=TOKEN,
        )
        store = open_store("s3://bucket/prefix/", s3)
        asked: tuple[Callable[[], object], ...] = (
            lambda: label_studio.project(1),
            lambda: label_studio.push_predictions(1, [{"task": 1, "text": A_TEXT}]),
            lambda: store.read("runs/1-1/request.json"),
            lambda: store.write("runs/1-1/request.json", A_TEXT.encode()),
            lambda: list(store.keys("runs/")),
        )
        for ask in asked:
            with pytest.raises(FitloopError) as caught:
                ask()
            log.error("said", reason=str(caught.value))
        inference = RemoteInference(ClusterSettings(predictor_url=url))
        try:
            with pytest.raises(FitloopError) as output:
                await inference.scores("1-1", "v-1", [A_TEXT])
            log.error("said", reason=str(output.value))
        finally:
            inference.close()
    written = capsys.readouterr().err
    assert len([line for line in lines_of(written) if line["event"] == "said"]) == len(asked) + 1
    assert find_leaks(written) == []


@pytest.mark.usefixtures("_library_levels")
def test_the_kubernetes_token_is_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_everything()
    with serve_echo(500) as url:
        user = {"name": "u", "user": {"token": TOKEN}}
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}))
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        kube = connect("here")
        with pytest.raises(FitloopError):
            kube.get("job", "a")
    assert find_leaks(capsys.readouterr().err) == []


@pytest.mark.usefixtures("_library_levels")
async def test_an_unexpected_error_is_logged_without_its_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_everything()
    async with AppWorld(tmp_path, AuthSettings(username="", secret_path=PATH)) as world:
        world.serve()
        world.inference.error = ValueError(A_TEXT)
        body = {"project": 5, "tasks": [{"data": {"text": A_TEXT}}]}
        answer = await world.client.post(f"/{PATH}/predict", json=body, headers={"X-Request-ID": "seven"})
        assert answer.status_code == 500
    written = capsys.readouterr().err
    assert find_leaks(written) == []
    failed = next(line for line in lines_of(written) if line["event"] == "request_error")
    assert (failed["request_id"], failed["project"], failed["version"]) == ("seven", 5, "v-1")
    assert "support/fakes.py" in str(failed["frames"])


def test_leaks_would_be_found() -> None:
    assert find_leaks(f"a\nthe {TEXT.upper()} is here\nb") == [f"the {TEXT.upper()} is here"]
