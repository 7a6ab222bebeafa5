"""The trainer as a child process, with a server that answers like Label Studio; and main() in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.trainer import __main__ as module
from services.trainer.__main__ import main
from tests.support.http_server import serve_http
from tests.support.trainer import TrainerWorld

ROOT = Path(__file__).parents[2]
_WATCH = """
import os
import re
import sys

PLACE, EXISTS, SAYS, SIGNAL = {rule!r}


def hook(event, arguments):
    if event != "os.rename" or not re.search(PLACE, os.fsdecode(arguments[1])):
        return
    if EXISTS and not os.path.exists(EXISTS):
        return
    if SAYS:
        with open(arguments[0], "rb") as file:
            if not re.search(SAYS, file.read()):
                return
    os.kill(os.getpid(), SIGNAL)


sys.addaudithook(hook)
"""


def _passes(row: dict[str, Any], items: list[dict[str, Any]]) -> bool:
    """Return whether a task passes the filters that a run uses."""
    for item in items:
        value = item["value"]
        if item["filter"] == "filter:tasks:total_annotations":
            passes = bool(row["annotations"]) is (item["operator"] == "greater")
        elif item["filter"] == "filter:tasks:updated_at":
            passes = row["updated_at"] >= value
        elif item["operator"] in {"less", "in_list"}:
            passes = row["id"] < value if item["operator"] == "less" else row["id"] in value
        elif item["operator"] == "in":
            passes = value["min"] <= row["id"] <= value["max"]
        else:
            passes = row["id"] > value
        if not passes:
            return False
    return True


@contextmanager
def serve_label_studio(world: TrainerWorld) -> Iterator[str]:
    """Serve Label Studio's API and yield the address."""

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
                items = json.loads(query["query"])["filters"]["items"]
                rows = [row for row in world.labelstudio.tasks[1].values() if _passes(row, items)]
                body = {"tasks": rows[: int(query["page_size"])], "total": len(rows)}
            data = json.dumps(body).encode()
            self.send_response(200 if self.headers["Authorization"] == "Token secret" else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    with serve_http(Handler) as url:
        yield url


def run_command(world: TrainerWorld, run: str) -> subprocess.CompletedProcess[str]:
    """Run the trainer's command to its end, beside a server that answers like Label Studio."""
    with serve_label_studio(world) as url:
        return subprocess.run(
            trainer_command(world, run),
            env=trainer_environment(url),
            capture_output=True,
            text=True,
            check=False,
            cwd=world.base,
        )


def trainer_environment(url: str, **more: str) -> dict[str, str]:
    given = {"LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": "secret", "FITLOOP_LOG_FORMAT": "json"}
    return os.environ | given | {"PYTHONPATH": str(ROOT)} | more


def trainer_command(world: TrainerWorld, run: str) -> list[str]:
    return [sys.executable, "-P", "-m", "services.trainer", "--run", f"{world.store.url}/runs/{run}"]


def temporary(world: TrainerWorld) -> Path:
    """Return the folder for temporary files of `run_with_signal`."""
    return world.folder.parent / "temporary"


def temporary_files(world: TrainerWorld) -> Iterator[Path]:
    return temporary(world).rglob("*")


def run_with_signal(
    world: TrainerWorld,
    run: str,
    place: str,
    *,
    exists: str = "",
    says: bytes = b"",
    by: signal.Signals = signal.SIGKILL,
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Run a trainer that gets a signal at one exact moment, and return its end.

    Files enter the store by renaming. The signal is sent right before a file gets a name that matches `place`, if a file
    `exists` is there and the contents match `says`. An audit hook watches for it, loaded before any of our modules.
    """
    hooks = world.folder.parent / "hooks"
    hooks.mkdir(exist_ok=True)
    temporary(world).mkdir(exist_ok=True)
    rule = (place, str(world.folder / exists) if exists else "", says, int(by))
    (hooks / "sitecustomize.py").write_text(_WATCH.format(rule=rule))
    with serve_label_studio(world) as url:
        given = trainer_environment(
            url, PYTHONPATH=f"{hooks}{os.pathsep}{ROOT}", TMPDIR=str(temporary(world)), **more
        )
        return subprocess.run(
            trainer_command(world, run), env=given, capture_output=True, text=True, check=False, timeout=120
        )


def run_in_process(world: TrainerWorld, run: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "LabelStudio", lambda _: world.labelstudio)
    return main(["--run", f"{world.store.url}/runs/{run}"])
