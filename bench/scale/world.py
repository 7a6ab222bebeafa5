"""The simulated servers and the adapters, each in its own process, and what is asked of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.scale.content import NAME, Content, key_of
from services.core.domain import Action, Command
from services.core.inbox import Inbox, command_id
from services.core.settings import S3Settings, StorageSettings
from services.core.store.s3 import S3Store

_START_SECONDS = 120.0


@dataclass
class Child:
    """A process with a port."""

    process: subprocess.Popen[str]
    port: int
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def control(self, name: str, **given: object) -> Any:
        """Ask a simulated server."""
        return self.client.post(f"{self.url}/bench/{name}", json=given).json()

    def ask(self, what: str) -> Any:
        """Ask an adapter by its stdin."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def memory(self) -> tuple[float, float]:
        """Return resident MiB now, and the most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        now, most = (re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
        assert now
        assert most
        return int(now[1]) / 1024, int(most[1]) / 1024

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.client.close()


@dataclass
class World:
    """One bucket, one Label Studio, and adapters."""

    content: Content
    bucket: Child
    label_studio: Child
    store: S3Store
    folder: Path
    adapters: list[Child] = field(default_factory=list)

    def start_adapter(self, name: str, **environment: str) -> Child:
        """Start an adapter that follows, and wait until it answers from the bucket."""
        port = _free_port()
        variables = {**os.environ, **self._environment(name), **environment}
        sizes = (str(port), str(self.content.projects), str(self.content.labels))
        with (self.folder / f"{name}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.scale.adapter", *sizes],
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        child = Child(process, port)
        self.adapters.append(child)
        wait_for(lambda: self._follows(child), _START_SECONDS, f"{name} to follow")
        return child

    def give(self, project_id: int, version: str) -> float:
        """Store the command to serve a version, and return when it was stored."""
        now = time.time()
        command = Command(
            command_id(now), project_id, Action.PROMOTE, version, created_at=now, asked_by="bench"
        )
        Inbox(self.store).add_command(command)
        return time.time()

    def waiting(self) -> int:
        """Return how many commands are in the inbox."""
        return len(self.bucket.control("keys", prefix="inbox/cmd-"))

    def served(self, since: float) -> list[tuple[float, dict[str, str]]]:
        """Return the versions that were in effect by each serving.json written since."""
        return [(at, current) for at, current in self.bucket.control("served", since=since)]

    def _follows(self, child: Child) -> bool:
        if child.process.poll() is not None:
            raise RuntimeError(f"The adapter ended: see {self.folder}")
        with contextlib.suppress(httpx.HTTPError):
            return child.client.get(f"{child.url}/api/projects").status_code == httpx.codes.OK
        return False

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "LABEL_STUDIO_URL": self.label_studio.url,
            "LABEL_STUDIO_API_KEY": "0" * 40,
            "FITLOOP_STORE": f"s3://{NAME}/",
            "FITLOOP_S3_ENDPOINT": self.bucket.url,
            "FITLOOP_S3_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": name,
            "AWS_SECRET_ACCESS_KEY": "bench-secret",
            "FITLOOP_ANONYMOUS": "true",
            "FITLOOP_RECONCILE_SECONDS": "60",
            "FITLOOP_MAX_ACTIVE_RUNS": "1000",
            "FITLOOP_EMBED_SECONDS": "0",
            "FITLOOP_LOG_FORMAT": "json",
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
        }


@contextlib.contextmanager
def world(content: Content, bucket_seconds: float = 0.005, studio_seconds: float = 0.1) -> Iterator[World]:
    """Start the servers with that content; stop all that was started."""
    with tempfile.TemporaryDirectory(prefix="fitloop-scale-") as folder:
        bucket, studio = _serve("bench.scale.bucket"), _serve("bench.scale.label_studio")
        made = World(content, bucket, studio, _store(bucket.url), Path(folder))
        try:
            _fill(made, bucket_seconds, studio_seconds)
            yield made
        finally:
            for child in (*made.adapters, bucket, studio):
                child.kill()


def _fill(made: World, bucket_seconds: float, studio_seconds: float) -> None:
    content = made.content
    sizes = {"projects": content.projects, "runs": content.runs, "labels": content.labels}
    made.bucket.control("fill", **sizes)
    made.bucket.control("set", seconds=bucket_seconds)
    made.label_studio.control(
        "set", projects=content.projects, labels=content.labels, seconds=studio_seconds, titles={}
    )


def wait_for(look: Callable[[], bool], seconds: float, what: str, every: float = 0.05) -> float:
    """Wait until `look` returns True; return the seconds. Raises TimeoutError."""
    began = time.monotonic()
    while not look():
        if time.monotonic() > began + seconds:
            raise TimeoutError(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(every)
    return time.monotonic() - began


def carried_out(
    tables: list[tuple[float, dict[str, str]]], project_id: int, version: str, since: float
) -> float | None:
    """Return when the version was in effect for the project, by the tables that were written."""
    return next(
        (at for at, current in tables if at >= since and current.get(key_of(project_id)) == version), None
    )


def _serve(module: str) -> Child:
    child = Child(
        subprocess.Popen([sys.executable, "-m", module, str(port := _free_port())], text=True), port
    )

    def is_up() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    wait_for(is_up, _START_SECONDS, module)
    return child


def _store(url: str) -> S3Store:
    keys: Mapping[str, Any] = {
        "FITLOOP_S3_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": "driver",
        "AWS_SECRET_ACCESS_KEY": "bench-secret",
        "FITLOOP_S3_REGION": "us-east-1",
    }
    return S3Store(f"s3://{NAME}/", S3Settings(**keys), StorageSettings())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
