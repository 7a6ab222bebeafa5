"""The command as it is started, against a server that answers like Label Studio; and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from services.core.domain import Method, RunState
from services.core.errors import StoreError
from services.core.store.files import FileStore
from services.trainer import __main__ as module
from services.trainer.__main__ import main
from services.trainer.preemption import Stop
from tests.trainer.world import World
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@contextmanager
def served(world: World) -> Iterator[str]:
    """Label Studio's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if address.path == "/api/projects/1/":
                project, counts = world.labelstudio.project(1)
                body: object = {
                    "id": 1,
                    "title": project.title,
                    "label_config": project.label_config,
                    "created_at": project.created_at,
                    "num_tasks_with_annotations": counts.annotated_tasks,
                }
            else:
                size, page = int(query["page_size"]), int(query["page"])
                rows = list(world.labelstudio.annotated_tasks(1))
                body = {"tasks": rows[size * (page - 1) : size * page]}
            data = json.dumps(body).encode()
            self.send_response(200 if self.headers["Authorization"] == "Token secret" else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(url: str, **more: str) -> dict[str, str]:
    given = {"LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": "secret", "FITLOOP_LOG_FORMAT": "json"}
    return os.environ | given | {"PYTHONPATH": str(ROOT)} | more


def command(world: World, run: str) -> list[str]:
    return [sys.executable, "-P", "-m", "services.trainer", "--run", f"{world.store.url}/runs/{run}"]


def test_the_command_reads_labels_and_publishes(world: World) -> None:
    world.label(60)
    run = world.request()
    with served(world) as url:
        done = subprocess.run(
            command(world, run),
            env=environment(url),
            capture_output=True,
            text=True,
            check=False,
            cwd=world.base,
        )
    assert done.returncode == 0, done.stderr
    status = world.status(run)
    assert (status.state, status.exit_code) == (RunState.DONE, 0)
    assert [one.version for one in status.published] == ["support-1"]
    assert {"reading", "features", "fitting", "judging", "exporting", "publishing"} <= status.seconds.keys()
    words = {word for row in world.labelstudio.tasks[1].values() for word in [row["data"]["text"]]}
    assert not any(text in done.stderr for text in words), "no text of a task is logged"
    assert "secret" not in done.stderr


def test_sigterm_keeps_a_checkpoint_and_exits_with_75(world: World) -> None:
    world.label(60)
    run = world.request(Method.FINETUNE, budget_seconds=1e6, num_train_epochs=100_000.0)
    with served(world) as url:
        process = subprocess.Popen(command(world, run), env=environment(url), stderr=subprocess.PIPE)
        eventually(lambda: (status := world.runs.status(run)) and status.stage.startswith("fine-tuning"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 75
    assert world.status(run).state is RunState.PREEMPTED
    assert f"runs/{run}/checkpoints/1/state.json" in list(world.store.keys("runs/"))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """main() in this process: it must not take the tests' signals."""
    monkeypatch.setattr(Stop, "listen", lambda _: None)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")


def in_process(world: World, run: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "LabelStudio", lambda _: world.labelstudio)
    return main(["--run", f"{world.store.url}/runs/{run}"])


@pytest.mark.usefixtures("quiet")
def test_too_few_labels_are_bad_data(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.label(1)
    run = world.request()
    assert in_process(world, run, monkeypatch) == 65
    status = world.status(run)
    assert (status.state, status.exit_code) == (RunState.FAILED, 65)
    assert status.message


@pytest.mark.usefixtures("quiet")
def test_a_wrong_setting_is_bad_config(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.request()
    monkeypatch.setenv("LABEL_STUDIO_URL", "nonsense")
    assert in_process(world, run, monkeypatch) == 78
    assert "LABEL_STUDIO_HOST" in world.status(run).message


@pytest.mark.usefixtures("quiet")
def test_a_run_that_is_asked_to_end_is_preempted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.label(30)
    run = world.request()
    monkeypatch.setattr(module, "Stop", lambda: world.stop)
    monkeypatch.setattr(type(world.stop), "listen", lambda _: None)
    world.stop.asked = True
    assert in_process(world, run, monkeypatch) == 75
    assert world.status(run).state is RunState.PREEMPTED


@pytest.mark.usefixtures("quiet")
def test_a_crash_is_a_sentence_in_the_status(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    run = world.request()
    monkeypatch.setattr(module, "train", broken)
    assert in_process(world, run, monkeypatch) == 1
    assert world.status(run).message == "The run crashed (ZeroDivisionError): see its log."


@pytest.mark.usefixtures("quiet")
def test_a_last_status_that_cannot_be_written_is_no_success(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.request()

    def full(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(module, "train", lambda _: None)
    monkeypatch.setattr(FileStore, "write", full)
    assert in_process(world, run, monkeypatch) == 1


@pytest.mark.usefixtures("quiet")
def test_a_run_that_does_not_exist_is_a_bad_request_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", f"{tmp_path.as_uri()}/runs/9-9"]) == 64
    assert "request.json is missing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
