"""A real Label Studio for the whole run, and a real `fitloop local` for each benchmark: the demo's servers with other data."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from bench.result import Options, Skip, say
from demo.__main__ import base_model
from demo.annotator import Annotator, label_config
from demo.processes import DemoError, Server
from demo.servers import TOKEN, address, fitloop, label_studio

Found = TypeVar("Found")
NEVER = "100000"
"""START_TRAINING_EACH_N_UPDATES: runs start only on request."""


def until(look: Callable[[], Found | None], seconds: float, what: str, every: float = 0.1) -> Found:
    """Return what `look` finds, once it finds something. Raise DemoError on timeout."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(every)
    raise DemoError(f"Waited {seconds:.0f} s in vain for {what}.")


@dataclass
class Backend:
    """A running `fitloop local`."""

    server: Server
    folder: Path
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120))

    @property
    def url(self) -> str:
        return address(self.server)

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid

    def setup_version(self, connected: Connected) -> str:
        """Return the response of /setup."""
        return str(
            self.client.post(f"{self.url}/setup", json=connected.setup_body()).json().get("model_version")
        )

    def state(self, project: int) -> dict[str, Any]:
        """Return Fitloop's status of the project; {} if it is not known yet."""
        answer = self.client.get(f"{self.url}/api/projects/{project}")
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    def document(self, run: str, name: str) -> dict[str, Any]:
        """Return runs/<run>/<name>.json; {} if it does not exist yet."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "runs" / run / f"{name}.json").read_bytes()))
        return {}

    def resting(self, project: int) -> dict[str, Any] | None:
        """Return the project's state if no run is active or pending, else None."""
        state = self.state(project)
        return state if state and not state["active"] and not state["pending"] else None


@dataclass(frozen=True, slots=True)
class Connected:
    """A project in Label Studio, connected to Fitloop."""

    id: int
    key: str
    """Its name in Label Studio's requests: `<id>.<created>`; with a dash it is Fitloop's key."""
    config: str
    backend: int
    parameters: dict[str, object]

    def setup_body(self) -> dict[str, Any]:
        """/setup as Label Studio 1.23 sends it."""
        return {
            "project": self.key,
            "schema": self.config,
            "hostname": "http://localhost:8080",
            "access_token": "0" * 40,
            "extra_params": self.parameters or None,
        }

    def version_folder(self, backend: Backend, version: str) -> Path:
        return backend.folder / "projects" / self.key.replace(".", "-") / "versions" / version


@dataclass
class Rig:
    """Starts the servers that a benchmark needs, and stops them. A context manager."""

    options: Options
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fitloop-bench-")))
    servers: list[Server] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in reversed(self.servers):
            server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def annotator(self) -> Annotator:
        """Return the admin of a new Label Studio. Raise Skip."""
        executable = self.options.label_studio
        if not executable.exists():
            raise Skip(
                "Label Studio is missing: `make demo` installs it, or set FITLOOP_LABEL_STUDIO to its executable."
            )
        say("Label Studio starts, for the first time with this database: about a minute")
        studio = label_studio(executable.absolute(), self.folder / "label-studio", 18080, _listen())
        self.servers.append(studio)
        studio.start()
        studio.wait(600)
        return Annotator(address(studio), TOKEN)

    @contextlib.contextmanager
    def fitloop(self, **environment: str) -> Iterator[Backend]:
        """Start a `fitloop local` with its own data folder and MiniLM as its base model. Raise Skip."""
        settings = {
            "BASELINE_MODEL_NAME": str(base()),
            "START_TRAINING_EACH_N_UPDATES": NEVER,
            "FITLOOP_COLD_START": "false",
            "FITLOOP_LOG_FORMAT": "json",
            **environment,
        }
        folder = Path(tempfile.mkdtemp(prefix="fitloop-", dir=self.folder))
        server = fitloop(folder, self.annotator.url, settings, 19090)
        self.servers.append(server)
        server.start()
        try:
            server.wait(60)
            yield Backend(server, folder)
        finally:
            server.stop()

    def connect(
        self, backend: Backend, texts: Sequence[tuple[str, str]], labels: Sequence[str], **parameters: object
    ) -> Connected:
        """Create a project of labelled texts and connect it; Fitloop has read the labels when this returns."""
        config = label_config(labels)
        project = self.annotator.create_project("Bench", config)
        self.annotator.import_labelled(project, [_labelled(*row) for row in texts])
        connected = self.attach(backend, project, config, **parameters)

        def read() -> dict[str, Any] | None:
            state = backend.resting(project)
            return state if state and state["labelled"] > 0 else None

        until(read, 60, f"Fitloop to read the labels: {backend.state(project)}")
        return connected

    def attach(self, backend: Backend, project: int, config: str, **parameters: object) -> Connected:
        """Connect an existing project."""
        row = self.annotator.call("GET", f"/api/projects/{project}/")
        key = f"{project}.{int(_epoch(row['created_at']))}"
        connection = self.annotator.connect(project, backend.url, extra_params=parameters or None)
        return Connected(project, key, config, connection, parameters)

    def train(self, backend: Backend, connected: Connected, seconds: float = 400) -> str:
        """Send "Start training"; return the version that is served once no run is active."""
        self.annotator.start_training(connected.backend)

        def version() -> str | None:
            state = backend.resting(connected.id)
            if state and state["last"] and state["last"]["state"] == "failed":
                raise DemoError(f"The run failed: {state['last']['message']}")
            return state["served"]["current"] if state else None

        found = until(version, seconds, "a version that is served")
        return until(
            lambda: found if backend.setup_version(connected) == found else None, 10, "/setup to say so"
        )


def _listen() -> str:
    """Return the host on which pods of a cluster can reach it, if there is one."""
    return "0.0.0.0" if os.environ.get("KUBECONFIG") else "127.0.0.1"  # noqa: S104  # a throw-away Label Studio


def base() -> Path:
    """Return MiniLM's folder. Raise Skip."""
    try:
        return base_model()
    except DemoError as error:
        raise Skip(str(error)) from error


def _labelled(text: str, label: str) -> dict[str, Any]:
    region = {"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"data": {"text": text}, "annotations": [{"result": [region]}]}


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
