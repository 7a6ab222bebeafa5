"""The servers: how each is installed, started and asked, and where its answer has the labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import predict
from bench.peers import content
from bench.result import say
from bench.rig import Connected
from demo.processes import Server, free_port

FITLOOP, PREDICTOR = "`fitloop local`", "Fitloop's predictor"
INFINITY, INFINITY_INT8 = "infinity, fp32", "infinity, int8"
KSERVE, PIPELINE, RELOAD = "KServe, padded batches", "`pipeline` in memory", "`pipeline` loaded per request"
_ENVIRONMENT_SECONDS = 900
_INFINITY = ("infinity-emb[torch,server]==0.0.78",)
_OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
Labels = Callable[[Any], list[str]]


class NotInstalled(Exception):
    """The peer cannot be installed here; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server under measurement."""

    name: str
    command: Sequence[str]
    port: int
    path: str
    body: Callable[[Sequence[str]], Any]
    """The request for some texts, to be sent as JSON."""
    labels: Labels
    """The label of each text in its answer."""
    health: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)

    def server(self, logs: Path) -> Server:
        log = logs / f"{self.port}.log"
        url = f"http://127.0.0.1:{self.port}{self.health}"
        return Server(self.name, self.command, self.environment, url, log)

    def request(self, texts: Sequence[str]) -> str:
        return json.dumps(self.body(texts))


def all_of(classifier: Path, bucket: Path, labels: Sequence[str], home: Path) -> dict[str, Peer | str]:
    """Return each server, or why it cannot be started here."""
    found: dict[str, Peer | str] = {
        peer.name: peer for peer in (*_fitloop(bucket, labels), *_own(classifier))
    }
    try:
        program = environment(home / "infinity", _INFINITY) / "infinity_emb"
    except NotInstalled as error:
        return found | {INFINITY: str(error), INFINITY_INT8: str(error)}
    return found | {
        INFINITY: _infinity(program, classifier, INFINITY, "float32", 19310),
        INFINITY_INT8: _infinity(program, classifier, INFINITY_INT8, "int8", 19320),
    }


def _fitloop(bucket: Path, labels: Sequence[str]) -> list[Peer]:
    connected = Connected(1, content.KEY, content.config(labels), 1, {})
    port, own, state = free_port(19110), free_port(19120), free_port(19121)
    command = [
        sys.executable,
        "-P",
        "-m",
        "services.cli",
        "local",
        "--port",
        str(port),
        "--data",
        str(bucket),
    ]
    settings = {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": "none",
        "LOG_LEVEL": "ERROR",
    }
    predictor = {
        "FITLOOP_STORE": bucket.as_uri(),
        "FITLOOP_PREDICTOR_PORT": str(own),
        "FITLOOP_PREDICTOR_STATE_PORT": str(state),
        "LOG_LEVEL": "ERROR",
    }
    return [
        Peer(
            FITLOOP,
            command,
            port,
            "/predict",
            lambda texts: predict.body(connected, texts),
            lambda answer: [one["result"][0]["value"]["choices"][0] for one in answer["results"]],
            environment=settings,
        ),
        Peer(
            PREDICTOR,
            [sys.executable, "-P", "-m", "services.predictor"],
            own,
            f"/v1/models/p{content.PROJECT}:predict",
            lambda texts: {"instances": list(texts)},
            _from_predictions,
            "/v2/health/ready",
            predictor,
        ),
    ]


def _own(classifier: Path) -> list[Peer]:
    """Return the servers of this package, which need what the trainer needs, and KServe."""
    kserve, kept, loaded = free_port(19210), free_port(19220), free_port(19230)

    def tasks(texts: Sequence[str]) -> dict[str, Any]:
        return {"tasks": [{"id": number, "data": {"text": text}} for number, text in enumerate(texts)]}

    def choices(answer: Any) -> list[str]:
        return [one["result"][0]["value"]["choices"][0] for one in answer["results"]]

    def command(module: str, port: int) -> list[str]:
        return [sys.executable, "-m", module, str(classifier), str(port)]

    served = [sys.executable, "-m", "bench.peers.kserve_server", str(classifier), f"--http_port={kserve}"]
    return [
        Peer(
            KSERVE,
            served,
            kserve,
            "/v1/models/model:predict",
            lambda texts: {"instances": list(texts)},
            _from_predictions,
            "/v2/health/ready",
            _OFFLINE,
        ),
        Peer(
            PIPELINE,
            command("bench.pipeline_server", kept),
            kept,
            "/predict",
            tasks,
            choices,
            environment=_OFFLINE,
        ),
        Peer(
            RELOAD,
            command("bench.peers.reload_server", loaded),
            loaded,
            "/predict",
            tasks,
            choices,
            environment=_OFFLINE,
        ),
    ]


def _infinity(program: Path, classifier: Path, name: str, kind: str, wanted: int) -> Peer:
    port = free_port(wanted)
    options = {
        "model-id": str(classifier),
        "engine": "torch",
        "device": "cpu",
        "dtype": kind,
        "port": str(port),
    }
    command = [str(program), "v2", *(part for key, value in options.items() for part in (f"--{key}", value))]
    return Peer(
        name,
        command,
        port,
        "/classify",
        lambda texts: {"model": classifier.name, "input": list(texts)},
        lambda answer: [max(row, key=lambda one: one["score"])["label"] for row in answer["data"]],
        environment={**_OFFLINE, "INFINITY_MODEL_ID": "", "PYTHONWARNINGS": "ignore"},
    )


def _from_predictions(answer: Any) -> list[str]:
    return [one["label"] for one in answer["predictions"]]


def environment(folder: Path, packages: Sequence[str]) -> Path:
    """Install the packages and this environment's torch into an environment of their own; return its bin. Raise NotInstalled."""
    bin_folder, stamp = folder / "bin", folder / "installed.txt"
    wanted = [*packages, f"torch=={version('torch').partition('+')[0]}"]
    if stamp.exists() and stamp.read_text("utf-8").split() == wanted:
        return bin_folder
    say(f"peers: {packages[0]} is being installed (some minutes, once)")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(bin_folder / "pip"), "install", "--quiet", *wanted],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_ENVIRONMENT_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstalled(f"not installed: {type(error).__name__}") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise NotInstalled(f"not installed: {lines[-1][:120].replace(os.sep, ' ')}")
    stamp.write_text("\n".join(wanted), encoding="utf-8")
    return bin_folder
